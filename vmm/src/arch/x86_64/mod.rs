//! A PC without legacy: [`layout`] places memory and devices, [`acpi`] describes them to the guest, [`boot`] loads the
//! kernel, and [`features`] shapes the processors.

pub mod acpi;
pub mod boot;
pub mod features;
pub mod layout;

pub use self::features::FeatureLeaf;
