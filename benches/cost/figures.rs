//! Many measurements of one thing, as few figures.

/// Measurements, lowest first; at least one.
#[derive(Debug, Clone)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(2)
    }

    /// A quarter of all are lower.
    pub fn first_quartile(&self) -> f64 {
        self.quantile(1)
    }

    /// A quarter of all are higher.
    pub fn third_quartile(&self) -> f64 {
        self.quantile(3)
    }

    /// The lowest.
    pub fn lowest(&self) -> f64 {
        self.quantile(0)
    }

    /// The highest.
    pub fn highest(&self) -> f64 {
        self.quantile(4)
    }

    fn quantile(&self, quarters: usize) -> f64 {
        self.0[(self.0.len() - 1) * quarters / 4]
    }
}
