//! The control socket: requests, answers and the event of the machine's end, each one line of JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest request in bytes, its line break included.
pub const MAX_REQUEST_BYTES: u64 = 64 << 10;

/// A request. The comment of each names the type inside [`Answer::Ok`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What the machine is doing: [`MachineState`].
    State {},
    /// The counters of its devices: [`Stats`].
    Stats {},
    /// Ask the guest to power off, as its power button does: [`Empty`].
    Stop {},
    /// End the machine at once: [`Empty`].
    Kill {},
    /// Send the [`Event`] of the machine's end on this connection: [`Empty`].
    Watch {},
    /// Read the size of a disk's image again after it grew: [`DiskResized`].
    ResizeDisk {
        /// The disk's `id` in the configuration.
        id: String,
    },
    /// Stop the guest where it is: [`Empty`]. A paused guest stays paused.
    Pause {},
    /// Resume a paused guest: [`Empty`]. A running guest keeps running.
    Resume {},
    /// Write a snapshot and leave the guest paused: [`Answer::Progress`] lines, then [`Empty`]. Hanging up cancels.
    Save {
        /// Directory of the snapshot; the monitor creates it.
        directory: PathBuf,
    },
    /// Ask the guest for memory, which the host gets back: [`BalloonResized`].
    SetBalloon {
        /// Memory wanted from the guest; all but 64 MiB of it at most. 0 returns everything.
        bytes: u64,
    },
    /// Carry the datagrams of the bound UDP socket that comes with this line (`SCM_RIGHTS`) into the guest: [`Empty`].
    PublishDatagrams {
        /// Number of the publication, chosen by the client and its own.
        id: u64,
        /// Address in the guest.
        to: SocketAddr,
    },
    /// Carry the accepted TCP connection that comes with this line (`SCM_RIGHTS`) into the guest: [`Empty`].
    PublishConnection {
        /// Number of the publication, chosen by the client and its own.
        id: u64,
        /// Address in the guest.
        to: SocketAddr,
    },
    /// Close the sockets and connections of a publication: [`Empty`].
    EndPublication {
        /// Number of the publication.
        id: u64,
    },
}

/// The answer to a request. `T` is the type the request names.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<T> {
    /// Done.
    Ok(T),
    /// Under way; more lines follow. Only [`Request::Save`] sends it.
    Progress(SaveProgress),
    /// Not done.
    Error(crate::Failure),
}

/// The answer of a request that returns nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Empty {}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The guest does not run yet.
    Starting,
    /// The guest runs.
    Running,
    /// The guest is paused and its devices are at rest.
    Paused,
    /// The guest has been asked to power off.
    Stopping,
}

/// The answer to [`Request::State`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MachineState {
    /// What runs the guest's processors.
    pub accelerator: crate::Accelerator,
    /// How the monitor is confined.
    #[serde(default)]
    pub confinement: ConfinementStatus,
    /// Process ID of the monitor.
    pub process: u32,
    /// What the machine is doing.
    pub state: State,
    /// Time since the monitor started the machine, in milliseconds.
    pub uptime_ms: u64,
}

/// How the monitor's process is confined.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConfinementStatus {
    /// The Landlock interface in use, such as `abi 7`; none where the host has no Landlock.
    pub landlock: Option<String>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
}

/// Counters by name.
pub type Counts = BTreeMap<String, u64>;

/// The answer to [`Request::Stats`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stats {
    /// The devices, in the order the guest finds them.
    pub devices: Vec<DeviceStats>,
    /// How often the processors left the guest, by reason. Absent where the accelerator cannot count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exits: Option<Counts>,
}

/// The counters of one device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeviceStats {
    /// What the device did, by name.
    pub counters: Counts,
    /// Identity: a disk's `id`, else the kind.
    pub id: String,
    /// Kind, such as `block` or `net`.
    pub kind: String,
    /// What the guest's accesses cost: interrupts, doorbells, register exits. Absent where it cannot be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Counts>,
}

/// The answer to [`Request::ResizeDisk`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiskResized {
    /// The new size in bytes.
    pub bytes: u64,
    /// Whether the guest was notified; otherwise it sees the size at its next start.
    pub guest_told: bool,
}

/// The answer to [`Request::SetBalloon`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BalloonResized {
    /// What the guest has given so far, in bytes.
    pub actual_bytes: u64,
    /// What the guest is asked for now, in bytes: whole pages.
    pub bytes: u64,
    /// Whether the guest was notified.
    pub guest_told: bool,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SaveProgress {
    /// Guest memory written so far, in bytes.
    pub done_bytes: u64,
    /// All guest memory, in bytes.
    pub total_bytes: u64,
}

/// What a connection that watches receives.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The machine has ended. The end of the file follows when the monitor's process ends; without this event before
    /// it, the monitor itself died.
    Exited {
        /// A sentence for people; empty when the reason is enough.
        #[serde(default)]
        detail: String,
        /// Why.
        reason: EndReason,
    },
}

/// Why a machine ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// A request or a signal ended it.
    Killed,
    /// The guest, or what runs it, failed.
    Crashed,
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Accelerator, Failure, FailureCode};

    /// `value` has exactly the wire form `json`, both ways.
    fn pin<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &Value) {
        assert_eq!(&serde_json::to_value(value).unwrap(), json);
        assert_eq!(&serde_json::from_value::<T>(json.clone()).unwrap(), value);
    }

    #[test]
    fn requests_have_the_documented_form() {
        pin(&Request::State {}, &json!({"command": "state"}));
        pin(&Request::Stats {}, &json!({"command": "stats"}));
        pin(&Request::Stop {}, &json!({"command": "stop"}));
        pin(&Request::Kill {}, &json!({"command": "kill"}));
        pin(&Request::Watch {}, &json!({"command": "watch"}));
        pin(&Request::Pause {}, &json!({"command": "pause"}));
        pin(&Request::Resume {}, &json!({"command": "resume"}));
        pin(&Request::ResizeDisk { id: "data".to_owned() }, &json!({"command": "resize-disk", "id": "data"}));
        pin(&Request::Save { directory: "/s".into() }, &json!({"command": "save", "directory": "/s"}));
        pin(&Request::SetBalloon { bytes: 4096 }, &json!({"command": "set-balloon", "bytes": 4096}));
        let to = "[fd00::2]:53".parse().unwrap();
        pin(
            &Request::PublishDatagrams { id: 7, to },
            &json!({"command": "publish-datagrams", "id": 7, "to": "[fd00::2]:53"}),
        );
        let to = "172.17.0.2:80".parse().unwrap();
        pin(
            &Request::PublishConnection { id: 7, to },
            &json!({"command": "publish-connection", "id": 7, "to": "172.17.0.2:80"}),
        );
        pin(&Request::EndPublication { id: 7 }, &json!({"command": "end-publication", "id": 7}));
        assert_eq!(serde_json::to_string(&Request::State {}).unwrap(), r#"{"command":"state"}"#);
    }

    #[test]
    fn requests_with_unknown_keys_or_commands_are_refused() {
        let refused = |text: &str| serde_json::from_str::<Request>(text).unwrap_err();
        refused(r#"{"command":"save"}"#);
        refused(r#"{"command":"set-balloon","bytes":-1}"#);
        refused(r#"{"command":"publish-datagrams","id":7,"to":"[fd00::2]"}"#);
        refused(r#"{"command":"state","x":1}"#);
        refused(r#"{"command":"dance"}"#);
    }

    #[test]
    fn answers_have_the_documented_form() {
        pin(&Answer::Ok(Empty {}), &json!({"ok": {}}));
        let progress = SaveProgress { done_bytes: 1, total_bytes: 2 };
        pin(&Answer::<Empty>::Progress(progress), &json!({"progress": {"done_bytes": 1, "total_bytes": 2}}));
        let failure = Failure::new(FailureCode::NotPossible, "no network card");
        pin(
            &Answer::<Empty>::Error(failure),
            &json!({"error": {"code": "not-possible", "message": "no network card"}}),
        );
        let state = MachineState {
            accelerator: Accelerator::Uml,
            confinement: ConfinementStatus { landlock: Some("abi 7".to_owned()), seccomp: true },
            process: 123,
            state: State::Running,
            uptime_ms: 5,
        };
        let written = json!({"ok": {
            "state": "running", "accelerator": "uml", "process": 123, "uptime_ms": 5,
            "confinement": {"seccomp": true, "landlock": "abi 7"}
        }});
        pin(&Answer::Ok(state), &written);
        pin(&ConfinementStatus::default(), &json!({"seccomp": false, "landlock": null}));
        pin(&DiskResized { bytes: 5, guest_told: true }, &json!({"bytes": 5, "guest_told": true}));
        pin(
            &BalloonResized { bytes: 4096, actual_bytes: 0, guest_told: true },
            &json!({"bytes": 4096, "actual_bytes": 0, "guest_told": true}),
        );
    }

    #[test]
    fn states_and_end_reasons_have_their_names() {
        let names = [State::Starting, State::Running, State::Paused, State::Stopping];
        assert_eq!(serde_json::to_value(names).unwrap(), json!(["starting", "running", "paused", "stopping"]));
        let names = [EndReason::PowerOff, EndReason::Reset, EndReason::Killed, EndReason::Crashed];
        assert_eq!(serde_json::to_value(names).unwrap(), json!(["power-off", "reset", "killed", "crashed"]));
    }

    #[test]
    fn counters_that_are_not_there_are_absent() {
        let counts = |name: &str| Counts::from([(name.to_owned(), 1)]);
        let device =
            DeviceStats { counters: counts("reads"), id: "data".to_owned(), kind: "block".to_owned(), traffic: None };
        let written = json!({"id": "data", "kind": "block", "counters": {"reads": 1}});
        pin(&Stats { devices: vec![device.clone()], exits: None }, &json!({"devices": [written]}));
        let counted = Stats {
            devices: vec![DeviceStats { traffic: Some(counts("interrupts")), ..device }],
            exits: Some(counts("port-io")),
        };
        let written = json!({
            "devices": [{"id": "data", "kind": "block", "counters": {"reads": 1}, "traffic": {"interrupts": 1}}],
            "exits": {"port-io": 1}
        });
        pin(&counted, &written);
    }

    #[test]
    fn the_end_is_an_event() {
        let exited = Event::Exited { detail: String::new(), reason: EndReason::PowerOff };
        pin(&exited, &json!({"event": "exited", "reason": "power-off", "detail": ""}));
    }

    #[test]
    fn answers_may_gain_keys() {
        let newer = r#"{"ok":{"state":"paused","accelerator":"kvm","process":1,"uptime_ms":5,"mood":"good"}}"#;
        let answer: Answer<MachineState> = serde_json::from_str(newer).unwrap();
        assert!(matches!(answer, Answer::Ok(MachineState { state: State::Paused, .. })));
        assert_eq!(serde_json::from_str::<Answer<Empty>>(r#"{"ok":{"x":1}}"#).unwrap(), Answer::Ok(Empty {}));
    }
}
