//! What a tunnel costs a network when nobody uses it.

use std::time::Duration;

use ephemwork_net::missing;
use ephemwork_net::world::World;

use crate::faults::programs;
use crate::one_world;

const TIME: Duration = Duration::from_secs(9);

/// Each end asks for a sign of life when it has heard nothing for 3 s: at most six questions, of which each is a packet, an answer, and two
/// acknowledgements. Twice as many are a machine's bad day; asking each 100 ms would be hundreds.
const PACKETS: u64 = 48;

#[test]
fn an_idle_tunnel_is_quiet() {
    let _one = one_world();
    if let Some(missing) = missing() {
        eprintln!("skipped: counting a tunnel's packets needs {missing}");
        return;
    }
    let directory = std::env::temp_dir().join(format!("ephemwork-idle-{}", std::process::id()));
    let mut world = World::start(&directory, &programs(), false).unwrap();
    let packets = world.idle_packets(TIME).unwrap();
    println!("{packets} packets in {} s", TIME.as_secs());
    assert!(
        (1..=PACKETS).contains(&packets),
        "{packets} packets in {} s\n{}",
        TIME.as_secs(),
        world.logs()
    );
}
