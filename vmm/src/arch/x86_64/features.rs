//! The features that a guest's processor reports (CPUID): those of the host, with a topology of our own.

use serde::{Deserialize, Serialize};

/// Feature bit of leaf 1, ECX: XSAVE.
const XSAVE: u32 = 1 << 26;
/// Of leaf 1, ECX: a hypervisor is present, with leaves from `0x4000_0000`.
const HYPERVISOR: u32 = 1 << 31;
/// Of leaf 1, EDX: the count of logical processors is valid.
const HYPER_THREADING: u32 = 1 << 28;

/// One leaf of CPUID.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FeatureLeaf {
    /// EAX of the request.
    pub function: u32,
    /// ECX of the request, for leaves that depend on it.
    pub index: Option<u32>,
    /// The answer.
    pub eax: u32,
    /// The answer.
    pub ebx: u32,
    /// The answer.
    pub ecx: u32,
    /// The answer.
    pub edx: u32,
}

/// The registers that every processor starts with besides its reset state: fast string instructions on
/// (`IA32_MISC_ENABLE`), and memory write-back by default (`IA32_MTRR_DEF_TYPE`), without which a guest takes all
/// memory for uncached.
pub const MODEL_REGISTERS: [(u32, u64); 2] = [(0x1a0, 1), (0x2ff, 1 << 11 | 6)];

/// The features of processor `number` of `count`: cores of one thread each in one package, with an APIC of that number.
pub fn shape(offered: &[FeatureLeaf], number: u32, count: u32) -> Vec<FeatureLeaf> {
    let identity_bits = count.next_power_of_two().trailing_zeros();
    let xsave = offered.iter().any(|leaf| leaf.function == 1 && leaf.ecx & XSAVE != 0);
    let mut leaves: Vec<FeatureLeaf> = offered
        .iter()
        // The topology follows below. Guests get no performance counters (0xa, 0x80000022).
        .filter(|leaf| !matches!(leaf.function, 0xa | 0xb | 0x1f | 0x8000_0022 | 0x8000_0026))
        // A kernel stops if it finds state components without XSAVE.
        .filter(|leaf| leaf.function != 0xd || xsave)
        .copied()
        .collect();
    for leaf in &mut leaves {
        match leaf.function {
            // The largest leaf must reach the topology.
            0 => leaf.eax = leaf.eax.max(0xb),
            1 => {
                leaf.ebx = leaf.ebx & 0xffff | number << 24 | count.min(255) << 16;
                leaf.ecx |= HYPERVISOR;
                leaf.edx = leaf.edx & !HYPER_THREADING | if count > 1 { HYPER_THREADING } else { 0 };
            }
            // Caches of Intel: cores in the package; caches of the first two levels are a core's own.
            4 if leaf.eax & 0x1f != 0 => {
                let sharing = if leaf.eax >> 5 & 7 < 3 { 0 } else { (1 << identity_bits) - 1 };
                leaf.eax = leaf.eax & 0x3fff | sharing << 14 | ((1u32 << identity_bits) - 1).min(63) << 26;
            }
            0x8000_0008 => leaf.ecx = leaf.ecx & !0xf0ff | identity_bits << 12 | (count - 1).min(255),
            // Caches of AMD.
            0x8000_001d if leaf.eax & 0x1f != 0 => {
                let sharing = if leaf.eax >> 5 & 7 < 3 { 0 } else { count - 1 };
                leaf.eax = leaf.eax & 0x3fff | sharing << 14;
            }
            // AMD's own numbers: APIC, core, and one node.
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (number, number & 0xff, 0),
            _ => {}
        }
    }
    let level = |index, eax, ebx, ecx| FeatureLeaf { function: 0xb, index: Some(index), eax, ebx, ecx, edx: number };
    leaves.extend([level(0, 0, 1, 1 << 8), level(1, identity_bits, count, 2 << 8 | 1), level(2, 0, 0, 2)]);
    leaves
}

/// A register of CPUID's answer.
type Register = (&'static str, fn(&FeatureLeaf) -> u32);

const EAX: Register = ("EAX", |leaf| leaf.eax);
const EBX: Register = ("EBX", |leaf| leaf.ebx);
const ECX: Register = ("ECX", |leaf| leaf.ecx);
const EDX: Register = ("EDX", |leaf| leaf.edx);

/// Answers that are sets of features: leaf, index and registers (Intel SDM 2A, CPUID; KVM's own at `0x4000_0001`).
const FEATURE_SETS: [(u32, Option<u32>, &[Register]); 10] = [
    (1, None, &[ECX, EDX]),
    (7, Some(0), &[EBX, ECX, EDX]),
    (7, Some(1), &[EAX, EDX]),
    (0xd, Some(0), &[EAX]),
    (0xd, Some(1), &[EAX]),
    (0x4000_0001, None, &[EAX]),
    (0x8000_0001, None, &[ECX, EDX]),
    (0x8000_0007, None, &[EDX]),
    (0x8000_0008, None, &[EBX]),
    (0x8000_0021, None, &[EAX]),
];

/// Why a guest that found the features `saved` cannot resume with the features `here`; nothing if it can.
pub fn missing(saved: &[FeatureLeaf], here: &[FeatureLeaf]) -> Option<String> {
    let find = |leaves: &[FeatureLeaf], function, index| {
        leaves.iter().find(|leaf| leaf.function == function && leaf.index == index).copied()
    };
    let model = |leaves| find(leaves, 1, None).map(|leaf| leaf.eax);
    if model(saved) != model(here) {
        return Some("it was saved on a processor of another model".to_owned());
    }
    FEATURE_SETS.iter().find_map(|&(function, index, registers)| {
        let then = find(saved, function, index)?;
        let now = find(here, function, index);
        registers.iter().find_map(|(name, of)| {
            let lost = of(&then) & !now.as_ref().map_or(0, of);
            (lost != 0)
                .then(|| format!("this processor lacks features that it used (CPUID {function:#x} {name}: {lost:#x})"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_resumes_with_more_features_but_not_with_fewer() {
        let leaves = |ecx| vec![leaf(1, 0x0080_0f12, 0, ecx, 0), leaf(0x8000_0001, 0, 0, 0, 0)];
        assert_eq!(missing(&leaves(3), &leaves(7)), None);
        assert!(missing(&leaves(7), &leaves(3)).unwrap().contains("0x1 ECX: 0x4"));
        assert!(missing(&leaves(3), &leaves(3)[..1]).is_none());
        assert!(missing(&leaves(3), &[leaf(1, 0x0080_0f13, 0, 3, 0)]).unwrap().contains("another model"));
    }

    fn leaf(function: u32, eax: u32, ebx: u32, ecx: u32, edx: u32) -> FeatureLeaf {
        FeatureLeaf { function, index: None, eax, ebx, ecx, edx }
    }

    fn find(leaves: &[FeatureLeaf], function: u32, index: Option<u32>) -> FeatureLeaf {
        *leaves.iter().find(|leaf| leaf.function == function && leaf.index == index).unwrap()
    }

    #[test]
    fn each_processor_finds_its_own_number_and_the_count() {
        let offered = [leaf(0, 0xd, 0, 0, 0), leaf(1, 0, 0xaa00_0000, XSAVE, 0), leaf(0x8000_0008, 0, 0, 0, 0)];
        let shaped = shape(&offered, 2, 3);
        let first = find(&shaped, 1, None);
        assert_eq!((first.ebx >> 24, first.ebx >> 16 & 0xff), (2, 3));
        assert!(first.ecx & HYPERVISOR != 0 && first.edx & HYPER_THREADING != 0);
        let core = find(&shaped, 0xb, Some(1));
        assert_eq!((core.eax, core.ebx, core.ecx >> 8, core.edx), (2, 3, 2, 2));
        assert_eq!(find(&shaped, 0x8000_0008, None).ecx, 2 << 12 | 2);
    }

    #[test]
    fn state_components_are_hidden_with_xsave() {
        let component = FeatureLeaf { index: Some(0), ..leaf(0xd, 7, 0, 0, 0) };
        let has = |ecx| shape(&[leaf(1, 0, 0, ecx, 0), component], 0, 1).iter().any(|leaf| leaf.function == 0xd);
        assert!(has(XSAVE));
        assert!(!has(0));
    }
}
