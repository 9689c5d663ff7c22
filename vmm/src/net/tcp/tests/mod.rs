//! Conformance in simulated time, with a scripted guest and scripted hosts.
