//! A map that programs and we share, as keys and values of bytes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::bpf::{error::BpfError, image::MapDefinition, syscall};

pub use crate::bpf::syscall::Existing;

/// A map in the kernel.
#[derive(Debug)]
pub struct Map {
    definition: MapDefinition,
    descriptor: OwnedFd,
}

impl Map {
    /// Creates it.
    pub fn create(definition: &MapDefinition) -> Result<Self, BpfError> {
        let created = syscall::create_map(definition);
        let descriptor = created.map_err(|source| BpfError::Map { name: definition.name.clone(), source })?;
        Ok(Self { definition: definition.clone(), descriptor })
    }

    /// How it was defined.
    pub fn definition(&self) -> &MapDefinition {
        &self.definition
    }

    /// Writes an element.
    pub fn set(&self, key: &[u8], value: &[u8], existing: Existing) -> Result<(), BpfError> {
        self.check(key, value);
        match syscall::update(self.descriptor.as_fd(), key, value, existing) {
            Err(why) if existing == Existing::Keep && why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome.map_err(|source| self.refusal(source)),
        }
    }

    /// Reads an element; `None` if there is none.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BpfError> {
        let mut value = vec![0; usize::try_from(self.definition.value).expect("a value fits the address space")];
        self.check(key, &value);
        match syscall::lookup(self.descriptor.as_fd(), key, &mut value) {
            Ok(()) => Ok(Some(value)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.refusal(source)),
        }
    }

    /// Removes an element, if there is one.
    pub fn remove(&self, key: &[u8]) -> Result<(), BpfError> {
        match syscall::delete(self.descriptor.as_fd(), key) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|source| self.refusal(source)),
        }
    }

    /// The kernel takes the sizes from the definition.
    fn check(&self, key: &[u8], value: &[u8]) {
        let MapDefinition { key: key_size, value: value_size, .. } = self.definition;
        let sizes = (key.len() as u64, value.len() as u64);
        assert_eq!(sizes, (u64::from(key_size), u64::from(value_size)), "an element of {}", self.definition.name);
    }

    fn refusal(&self, source: io::Error) -> BpfError {
        BpfError::Access { name: self.definition.name.clone(), source }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
