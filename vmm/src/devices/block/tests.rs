//! Tests of the block device with a mock driver queue.
