//! `forward`: a service here, for commands on a node.

use std::net::TcpListener;

use crate::harness::TestEnv;

#[test]
fn a_port_that_is_taken_there_sends_the_command_elsewhere_and_says_so() {
    let mut env = TestEnv::with_nodes(&["n1"]);
    // The node is this machine: the service itself has the port there.
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    env.set("TEST_URL", format!("http://localhost:{port}/x"));
    let project = env.project(&[("Makefile", "test:\n\t@echo $$HOME; echo $$TEST_URL\n")]);
    let here = project.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&here.stdout()), "local");
    assert!(
        here.stderr().contains("names a service on this machine"),
        "{}",
        here.stderr()
    );

    let config = std::fs::read_to_string(env.config_path()).unwrap();
    std::fs::write(env.config_path(), format!("forward = [{port}]\n{config}")).unwrap();
    let taken = project.cx(&["make", "test"]).ok();
    assert_eq!(env.place(&taken.stdout()), "local");
    assert!(
        taken
            .stderr()
            .contains(&format!("port {port} can't be forwarded there")),
        "{}",
        taken.stderr()
    );

    // Nothing answers here: there is nothing to forward, and the variable goes along.
    drop(service);
    let there = project.cx(&["make", "test"]).ok();
    assert_eq!(
        there.stdout(),
        format!("{}\nhttp://localhost:{port}/x\n", env.node("n1").home().display())
    );
}
