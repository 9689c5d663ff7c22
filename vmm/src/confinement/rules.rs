//! A list of allowed system calls, and its translation to a filter.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;

/// A condition on one argument of a call, counted from zero.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    /// Its low 32 bits are this value. Arguments that are wider in C have no such condition.
    Is(u8, u32),
    /// None of these bits is set.
    Without(u8, u32),
    /// Of the bits of the first value, those of the second are set.
    Bits(u8, u32, u32),
}

impl Argument {
    fn condition(self) -> Result<SeccompCondition, BackendError> {
        let (index, operator, value) = match self {
            Self::Is(index, value) => (index, SeccompCmpOp::Eq, value),
            Self::Without(index, bits) => (index, SeccompCmpOp::MaskedEq(bits.into()), 0),
            Self::Bits(index, mask, value) => (index, SeccompCmpOp::MaskedEq(mask.into()), value),
        };
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value.into())
    }
}

/// The system calls that a thread may make. Every other call traps.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    calls: Vec<(libc::c_long, Vec<Argument>)>,
}

impl Allowed {
    /// Adds these calls, with any arguments.
    pub(super) fn calls(mut self, numbers: &[libc::c_long]) -> Self {
        self.calls.extend(numbers.iter().map(|number| (*number, Vec::new())));
        self
    }

    /// Adds this call if all of `arguments` hold. A call that is added more than once needs one of its lists to hold.
    pub(super) fn call_with(mut self, number: libc::c_long, arguments: &[Argument]) -> Self {
        self.calls.push((number, arguments.to_vec()));
        self
    }

    /// Adds everything that `other` allows.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.calls.extend(other.calls);
        self
    }

    /// Translates the list to the kernel's form.
    ///
    /// # Errors
    /// The translation's; a list that fails once fails always.
    pub fn compile(&self) -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (number, arguments) in &self.calls {
            if arguments.is_empty() {
                // To the library, no rules allow any arguments, which includes all conditions.
                rules.insert(*number, Vec::new());
                continue;
            }
            let conditions = arguments.iter().map(|argument| argument.condition()).collect::<Result<_, _>>()?;
            let rule = SeccompRule::new(conditions)?;
            match rules.entry(*number) {
                Entry::Vacant(entry) => drop(entry.insert(vec![rule])),
                Entry::Occupied(mut entry) if !entry.get().is_empty() => entry.get_mut().push(rule),
                Entry::Occupied(_) => {}
            }
        }
        SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, ARCHITECTURE)?.try_into()
    }
}
