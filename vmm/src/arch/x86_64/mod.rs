//! A PC without legacy: memory and devices as [`layout`] says, described to the guest by [`acpi`], entered as
//! [`boot`] does, its processors shaped by [`features`].

pub mod acpi;
pub mod boot;
pub mod features;
pub mod layout;

pub use self::features::FeatureLeaf;
