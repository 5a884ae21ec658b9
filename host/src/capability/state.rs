//! The calling stream's small values, staged until the call's result is committed.

use std::collections::BTreeMap;

use crate::capability::source_world::sluicegate::plugin::state::{Host, Refusal};
use crate::sandbox::Call;

/// Longest key.
const KEY_BYTES: usize = 512;

/// How much a stream's state is.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    keys: usize,
    bytes: usize,
}

/// Committed values, and the changes that one call has made to them.
#[derive(Debug, Default)]
pub struct StagedState {
    committed: BTreeMap<String, Vec<u8>>,
    staged: BTreeMap<String, Option<Vec<u8>>>,
    /// Keys that hold a value, and the bytes of all keys and values.
    held: Held,
    /// Limits in bytes and keys; `None` for a call that may only read.
    quota: Option<(usize, usize)>,
}

impl StagedState {
    /// For a call that may write.
    pub fn writable(committed: BTreeMap<String, Vec<u8>>, bytes: usize, keys: usize) -> Self {
        let held = Held {
            keys: committed.len(),
            bytes: committed
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum(),
        };
        Self {
            committed,
            staged: BTreeMap::new(),
            held,
            quota: Some((bytes, keys)),
        }
    }

    /// What the call changed.
    pub fn into_changes(self) -> BTreeMap<String, Option<Vec<u8>>> {
        self.staged
    }

    fn get(&self, key: &str) -> Option<&Vec<u8>> {
        match self.staged.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.committed.get(key),
        }
    }

    fn keys(&self) -> Vec<String> {
        let committed = self
            .committed
            .keys()
            .filter(|key| !self.staged.contains_key(*key));
        let staged = self
            .staged
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| key);
        let mut keys: Vec<_> = committed.chain(staged).cloned().collect();
        keys.sort();
        keys
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), Refusal> {
        let Some((bytes, keys)) = self.quota else {
            return Err(Refusal::ReadOnly);
        };
        if key.is_empty() || key.len() > KEY_BYTES {
            return Err(Refusal::Quota(format!("a key has 1 to {KEY_BYTES} bytes")));
        }
        let before = self.get(&key).map(|value| key.len() + value.len());
        let after = Held {
            keys: self.held.keys + usize::from(before.is_none()),
            bytes: self.held.bytes - before.unwrap_or(0) + key.len() + value.len(),
        };
        if after.bytes > bytes {
            let after = after.bytes;
            return Err(Refusal::Quota(format!(
                "the state would hold {after} of {bytes} bytes"
            )));
        }
        if after.keys > keys {
            return Err(Refusal::Quota(format!(
                "the state holds {keys} keys, the most it may"
            )));
        }
        self.held = after;
        self.staged.insert(key, Some(value));
        Ok(())
    }

    fn delete(&mut self, key: String) -> Result<(), Refusal> {
        if self.quota.is_none() {
            return Err(Refusal::ReadOnly);
        }
        let Some(value) = self.get(&key) else {
            return Ok(());
        };
        self.held.bytes -= key.len() + value.len();
        self.held.keys -= 1;
        if self.committed.contains_key(&key) {
            self.staged.insert(key, None);
        } else {
            // Nothing to delete in the ledger, and nothing kept here: keys set and deleted in turns add up to nothing.
            self.staged.remove(&key);
        }
        Ok(())
    }
}

impl Host for Call {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state.get(&key).cloned())
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Refusal>> {
        Ok(self.state.set(key, value))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Refusal>> {
        Ok(self.state.delete(key))
    }

    async fn keys(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.state.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StagedState {
        let committed = BTreeMap::from([("a".into(), vec![1]), ("b".into(), vec![2])]);
        StagedState::writable(committed, 16, 3)
    }

    #[test]
    fn a_call_sees_its_own_writes_and_nothing_is_committed_here() {
        let mut state = state();
        state.set("c".into(), vec![3]).unwrap();
        state.delete("a".into()).unwrap();
        state.delete("never".into()).unwrap();
        assert_eq!(state.keys(), ["b", "c"]);
        assert_eq!((state.get("a"), state.get("c")), (None, Some(&vec![3])));
        let changes = state.into_changes();
        assert_eq!(
            changes,
            BTreeMap::from([("a".into(), None), ("c".into(), Some(vec![3]))])
        );
    }

    #[test]
    fn keys_set_and_deleted_in_turns_add_up_to_nothing() {
        let mut state = state();
        for turn in 0..10_000 {
            state.set(format!("{turn}"), vec![0; 5]).unwrap();
            state.delete(format!("{turn}")).unwrap();
        }
        assert_eq!(state.keys(), ["a", "b"]);
        assert_eq!((state.held.keys, state.held.bytes), (2, 4));
        assert!(state.into_changes().is_empty());
    }

    #[test]
    fn what_is_held_is_counted_through_every_change() {
        let mut state = state();
        state.set("a".into(), vec![1; 4]).unwrap();
        state.delete("b".into()).unwrap();
        state.set("b".into(), vec![2; 10]).unwrap();
        assert_eq!((state.held.keys, state.held.bytes), (2, 16));
        assert!(matches!(
            state.set("c".into(), vec![]),
            Err(Refusal::Quota(_))
        ));
        state.delete("a".into()).unwrap();
        state.delete("a".into()).unwrap();
        state.set("c".into(), vec![3; 4]).unwrap();
        assert_eq!((state.held.keys, state.held.bytes), (2, 16));
    }

    #[test]
    fn limits_refuse_and_stage_nothing() {
        let mut state = state();
        for (key, value) in [("", 1), ("c", 100), ("a", 15)] {
            let refused = state.set(key.into(), vec![0; value]);
            assert!(matches!(refused, Err(Refusal::Quota(_))), "{key} {value}");
        }
        state.set("c".into(), vec![]).unwrap();
        assert!(matches!(
            state.set("d".into(), vec![]),
            Err(Refusal::Quota(_))
        ));
        state.set("a".into(), vec![9; 3]).unwrap();
        let read_only = &mut StagedState::default();
        assert!(matches!(
            read_only.set("a".into(), vec![]),
            Err(Refusal::ReadOnly)
        ));
        assert!(matches!(
            read_only.delete("a".into()),
            Err(Refusal::ReadOnly)
        ));
    }
}
