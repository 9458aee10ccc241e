//! The port `Registrar`: where governance queries run.
