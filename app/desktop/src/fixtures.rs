//! Made-up containers and machines for tests.

use rorqual_backend::contract::{
    Bytes, Container, ContainerPort, ContainerState, Machine, MachineState, Milliseconds, Timestamp,
};

pub(crate) fn published(address: &str, host_port: u16, container_port: u16) -> ContainerPort {
    ContainerPort {
        protocol: "tcp".to_owned(),
        container_port,
        host_port: Some(host_port),
        host_address: Some(address.to_owned()),
    }
}

/// A running container; its identifier is `id-<name>`.
pub(crate) fn container(name: &str, ports: impl IntoIterator<Item = ContainerPort>) -> Container {
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        image: "rorqual/hello".to_owned(),
        image_id: String::new(),
        command: String::new(),
        created: Timestamp(0),
        started: Some(Timestamp(0)),
        finished: None,
        state: ContainerState::Running,
        exit_status: None,
        health: None,
        ports: ports.into_iter().collect(),
        networks: Vec::new(),
        volumes: Vec::new(),
        compose: None,
        labels: Vec::new(),
    }
}

pub(crate) fn machine(state: MachineState) -> Machine {
    Machine {
        name: "default".to_owned(),
        state,
        message: String::new(),
        fix: None,
        accelerator: "uml".to_owned(),
        accelerator_reason: String::new(),
        cpus: 1,
        memory: Bytes(0),
        disk: Bytes(0),
        disk_allocated: Bytes(0),
        ready_after: None,
        uptime: Milliseconds(0),
        docker_socket: String::new(),
        image_version: String::new(),
        kernel_release: String::new(),
        ports: Vec::new(),
    }
}
