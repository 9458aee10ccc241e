//! The generated protobuf messages of `proto/pinfold/v1`.
