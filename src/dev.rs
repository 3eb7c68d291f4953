//! The development server's folder.
