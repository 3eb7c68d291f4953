//! The rim: the only server module that knows protobuf.
