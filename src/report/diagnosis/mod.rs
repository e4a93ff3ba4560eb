//! What `gilscope doctor` found, for people and for programs. Nothing is judged here.

mod json;
mod text;

pub use self::{json::json, text::text};
