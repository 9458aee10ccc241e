//! Keys that a thread beside the loop asks for: the keyring has one owner, and that is the loop.
//!
//! What is given is wiped with the entries it was asked for.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Sender;

use crate::core::part::Key;
use crate::keyring::{Keyring, KeyringError, SubjectRef};
use crate::sidecar::reader::Keys;

/// A person's key in a class, and a class's in an epoch.
type OfPerson = (SubjectRef, u32);
type OfEpoch = (u32, u64);

/// The keys that some entries need.
pub(super) struct Ask {
    pub(super) people: HashSet<OfPerson>,
    pub(super) epochs: HashSet<OfEpoch>,
    reply: Sender<Result<Given, KeyringError>>,
}

/// The keys as the keyring has them: `None` where one is gone.
#[derive(Default)]
pub(super) struct Given {
    people: HashMap<OfPerson, Option<Key>>,
    epochs: HashMap<OfEpoch, Option<Key>>,
}

impl Ask {
    pub(super) fn new(reply: Sender<Result<Given, KeyringError>>) -> Ask {
        Ask { people: HashSet::new(), epochs: HashSet::new(), reply }
    }

    /// Answers from the keyring.
    pub(super) fn answer(self, keyring: &mut Keyring) {
        let Ask { people, epochs, reply } = self;
        let given = Given::take(keyring, people, epochs);
        // Nobody waits any more where the segment could not be read on.
        let _ = reply.send(given);
    }
}

impl Given {
    /// Takes keys from the keyring.
    ///
    /// # Errors
    /// Those of the keyring.
    pub(super) fn take(
        keyring: &mut Keyring,
        people: impl IntoIterator<Item = OfPerson>,
        epochs: impl IntoIterator<Item = OfEpoch>,
    ) -> Result<Given, KeyringError> {
        let mut given = Given::default();
        for (class, epoch) in epochs {
            given.epochs.insert((class, epoch), keyring.epoch_key(class, epoch)?);
        }
        for (person, class) in people {
            given.people.insert((person, class), keyring.key_of(person, class)?);
        }
        Ok(given)
    }
}

impl Keys for Given {
    fn epoch_key(&mut self, class: u32, epoch: u64) -> Result<Option<Key>, KeyringError> {
        let key = self.epochs.get(&(class, epoch));
        // A part that stays closed for want of a question would leave a row empty for ever.
        assert!(key.is_some(), "the key of an epoch that nobody asked for");
        Ok(key.cloned().flatten())
    }

    fn key_of(&mut self, subject: SubjectRef, class: u32) -> Result<Option<Key>, KeyringError> {
        let key = self.people.get(&(subject, class));
        assert!(key.is_some(), "the key of a person that nobody asked for");
        Ok(key.cloned().flatten())
    }
}
