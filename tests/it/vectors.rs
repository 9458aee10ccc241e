//! The format vectors of `tests/vectors/pinfold-v1`, made by an independent program in another language.
