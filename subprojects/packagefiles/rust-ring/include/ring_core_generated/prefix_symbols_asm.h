/* The crate's build would put its version before every name; here names stay as they are. */
