//! What a parked connection wakes for, and what it costs.

use super::super::places::Entry;
use super::*;
use crate::life::gate::Held;

/// A place of a house, and both ends of a connection.
async fn pair(house: &Arc<House>) -> (Place, TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    (house.admit(peer.ip()).await.unwrap(), stream, client)
}

async fn next(place: &Place, stream: &TcpStream, limit: Duration) -> Next {
    tokio::time::timeout(PATIENCE, place.next(stream, limit))
        .await
        .expect("it sleeps on")
}

#[tokio::test]
async fn f13_a_parked_connection_wakes_for_a_byte_an_end_its_time_and_its_place() {
    let house = House::uncounted(1);
    let (place, mut stream, mut client) = pair(&house).await;
    assert_eq!(next(&place, &stream, Duration::from_millis(1)).await, Next::Silent);
    client.write_all(b"x").await.unwrap();
    assert_eq!(next(&place, &stream, LONG).await, Next::Request);
    assert_eq!(next(&place, &stream, LONG).await, Next::Request, "nobody has read it");
    stream.read_exact(&mut [0]).await.unwrap();
    // The buffer was filled exactly: the runtime takes it that there may be more.
    assert_eq!(next(&place, &stream, Duration::from_millis(1)).await, Next::Silent);
    house.make_room();
    assert_eq!(next(&place, &stream, LONG).await, Next::Closing);
    drop(place);
    let (place, stream, client) = pair(&house).await;
    drop(client);
    assert_eq!(next(&place, &stream, LONG).await, Next::Gone);
}

#[tokio::test]
async fn f13_a_request_before_the_end_of_a_half_closed_client_is_seen() {
    let house = House::uncounted(2);
    let (place, stream, mut client) = pair(&house).await;
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    // Both have arrived.
    stream.ready(tokio::io::Interest::READABLE).await.unwrap();
    assert_eq!(next(&place, &stream, LONG).await, Next::Request);
    let (place, stream, client) = pair(&house).await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(next(&place, &stream, LONG).await, Next::Gone, "it broke off");
}

#[tokio::test]
async fn f13_one_that_sleeps_is_woken_when_its_place_is_needed() {
    let house = House::uncounted(1);
    let (place, stream, _client) = pair(&house).await;
    let sleeps = tokio::spawn(async move { (next(&place, &stream, LONG).await, place, stream) });
    // It is let in at once when the one before has gone.
    let (_new, ..) = tokio::join!(pair(&house), async {
        let (next, place, stream) = sleeps.await.unwrap();
        assert_eq!(next, Next::Closing);
        drop((stream, place));
    });
}

#[tokio::test]
async fn f13_where_one_that_was_to_go_gets_a_request_another_goes_at_once() {
    let house = House::uncounted(2);
    let address = "192.0.2.1".parse().unwrap();
    let (first, second) = (house.admit(address).await.unwrap(), house.admit(address).await.unwrap());
    let gives_way = async {
        first.needed().await;
        first.begins();
        second.needed().await;
        drop(second);
    };
    let both = async { tokio::join!(biased; house.admit(address), gives_way) };
    let (admitted, ()) = tokio::time::timeout(PATIENCE, both)
        .await
        .expect("nobody else was told to go");
    assert!(admitted.is_some());
}

#[tokio::test]
async fn f13_each_wait_has_its_own_time_whatever_the_one_before_had() {
    let house = House::uncounted(1);
    let (place, stream, mut client) = pair(&house).await;
    let waits = |milliseconds| next(&place, &stream, Duration::from_millis(milliseconds));
    for milliseconds in [1, 40, 2, 80] {
        let begun = Instant::now();
        assert_eq!(waits(milliseconds).await, Next::Silent);
        assert!(
            begun.elapsed() >= Duration::from_millis(milliseconds),
            "over before its time"
        );
    }
    // A wait that was ended by something else leaves its time behind: a shorter one is not held up by it, nor a longer one cut.
    for limit in [LONG, Duration::from_millis(20)] {
        let (found, written) = tokio::join!(biased; next(&place, &stream, limit), client.write_all(b"x"));
        assert_eq!((found, written.unwrap()), (Next::Request, ()));
        stream.try_read(&mut [0; 9]).unwrap();
        let begun = Instant::now();
        assert_eq!(waits(60).await, Next::Silent);
        assert!(begun.elapsed() >= Duration::from_millis(60), "over before its time");
    }
}

#[tokio::test]
async fn f13_the_first_request_ends_freshness() {
    let (gate, metrics) = (Arc::new(Gate::default()), Arc::new(Metrics::new().unwrap()));
    let limits = Config::parse(Path::new("proxy.toml"), "limits.connections = 9")
        .unwrap()
        .limits;
    let house = House::new(&limits, Vec::new(), Arc::clone(&gate), metrics);
    let place = house.admit("192.0.2.1".parse().unwrap()).await.unwrap();
    assert_eq!((gate.count(Class::Connection), gate.count(Class::Fresh)), (1, 1));
    place.begins();
    assert_eq!((gate.count(Class::Connection), gate.count(Class::Fresh)), (1, 0));
    place.ends();
    drop(place);
    assert_eq!((gate.count(Class::Connection), gate.count(Class::Fresh)), (0, 0));
}

#[tokio::test]
async fn f13_an_idle_connection_costs_little_memory() {
    let house = House::uncounted(1);
    let (place, stream, _client) = pair(&house).await;
    // Beside the entry: the counts of its Arc, the pointer in the list, and a client of its own in a map that is half empty.
    let client = size_of::<super::super::client::Client>() + 2 * size_of::<usize>();
    let kept = size_of::<Place>() + size_of::<Entry>() + 3 * size_of::<usize>() + 2 * client;
    assert!(kept <= 256, "{kept} bytes");
    assert!(size_of::<Held>() <= 16);
    let waits = size_of_val(&place.next(&stream, LONG)) + size_of::<tokio::time::Sleep>();
    assert!(waits <= 256, "{waits} bytes");
    let needed = size_of_val(&place.needed());
    assert!(needed <= 64, "{needed} bytes");
}

/// What of this process is in memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn f13_a_thousand_idle_connections_weigh_less_than_3_kib_each() {
    const COUNT: usize = 1000;
    alone(async {
        crate::listen::descriptors::raise().unwrap();
        let stage = Stage::new(ROOMY);
        // What is there once for all of them.
        let mut clients = stage.connect(100);
        stage.accepted(100).await;
        let before = resident();
        for hundreds in 2..=COUNT / 100 + 1 {
            clients.extend(stage.connect(100));
            stage.accepted(100 * hundreds).await;
        }
        let each = resident().saturating_sub(before) / COUNT;
        assert!(each <= 3 << 10, "{each} bytes");
        println!("{each} bytes each");
        drop(clients);
        stage.open(0).await;
    });
}
