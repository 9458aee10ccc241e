//! A sealed part: commitment, padding, encryption, and the checks of opening it.
