//! Where a crash would leave something half done: tests stop an operation at these steps, nothing else sees them.

#[cfg(test)]
use std::sync::Arc;

/// Told of every step that has been taken.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    #[cfg(test)]
    pub(crate) hook: Option<Arc<dyn Fn(&'static str) + Send + Sync>>,
}

impl Steps {
    #[cfg(test)]
    pub(crate) fn reached(&self, step: &'static str) {
        if let Some(hook) = &self.hook {
            hook(step);
        }
    }

    #[cfg(not(test))]
    pub(crate) fn reached(&self, _step: &'static str) {}
}
