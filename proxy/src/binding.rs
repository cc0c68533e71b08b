//! Decides whether this process reads the slot table that control writes; once it does not, it never will again.
//!
//! The table is mapped while this process may, and it has dropped its privileges since. Words of a table that nobody writes say
//! nothing: no request may be sent by them, and no lease of another table is about the slots of this one.

use miren_api::Identity;
use miren_loader::TableId;
use tokio::sync::watch;

/// The table this process reads, and whether it is control's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Binding {
    own: TableId,
    /// Another one that control writes.
    other: watch::Sender<Option<String>>,
}

impl Binding {
    pub fn new(own: TableId) -> Self {
        Self {
            own,
            other: watch::Sender::new(None),
        }
    }

    pub fn own(&self) -> &TableId {
        &self.own
    }

    /// Whether what control says along with `identity` is about this table. A control of an earlier release does not say.
    pub fn holds_for(&self, identity: Option<&Identity>) -> bool {
        let others = identity.map(|identity| &identity.slot_table);
        if let Some(other) = others.filter(|table| *table != self.own.as_str()) {
            self.other.send_if_modified(|known| {
                let is_news = known.is_none();
                known.get_or_insert_with(|| other.clone());
                is_news
            });
        }
        self.holds()
    }

    /// Whether nothing is known against it.
    pub fn holds(&self) -> bool {
        self.other.borrow().is_none()
    }

    /// Waits until control writes another table, and says which.
    pub async fn ended(&self) -> String {
        let mut other = self.other.subscribe();
        let known = other.wait_for(Option::is_some).await.ok();
        match known.and_then(|known| known.clone()) {
            Some(other) => other,
            // The sender is this one's own.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miren_loader::{FastPath, FastPathConfig, Mode, SlotReader, SlotSource};

    #[test]
    fn f10_a_table_that_control_does_not_write_any_more_is_never_believed_again() {
        let folder = tempfile::tempdir().unwrap();
        let table_file = folder.path().join("slots");
        let config = FastPathConfig {
            mode: Mode::Off,
            table_file: table_file.clone(),
            capacity: 8,
            ..FastPathConfig::default()
        };
        let table = FastPath::open(config.clone()).unwrap();
        let reader = SlotReader::open(&SlotSource::File(table_file)).unwrap();
        let binding = Binding::new(reader.table().clone());
        let told = |table: &FastPath| Identity {
            slot_table: table.table().to_string(),
            ..Identity::default()
        };
        assert!(binding.holds_for(None), "an earlier release does not say");
        assert!(binding.holds_for(Some(&told(&table))));
        table.remove().unwrap();
        let next = FastPath::open(config).unwrap();
        assert!(!binding.holds_for(Some(&told(&next))), "the same name, another table");
        assert!(!binding.holds_for(Some(&told(&table))) && !binding.holds());
    }
}
