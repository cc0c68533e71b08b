//! What connections without a request are owed when the proxy stops.

use super::*;
use crate::listen::house::Graces;

#[tokio::test(flavor = "multi_thread")]
async fn without_connections_it_ends_at_once() {
    let (idle, kept) = (
        Stage::new("limits.connections = 9"),
        Stage::new("limits.connections = 9"),
    );
    let mut client = kept.client().await;
    assert!(client.asks(b'x').await);
    kept.stops();
    idle.stops();
    let mut waits = kept.task;
    tokio::select! {
        biased;
        () = idle.ended() => {}
        _ = &mut waits => panic!("it waits although there is nobody to wait for"),
    }
    tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap();
    client.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_goes_first_and_a_fresh_one_may_still_send_its_request() {
    let stage = Stage::new("limits.connections = 9");
    let (mut fresh, mut kept) = (stage.client().await, stage.client().await);
    assert!(kept.asks(b'x').await);
    stage.accepted(2).await;
    let house = Arc::clone(&stage.house);
    let graces = Graces {
        kept: Duration::from_millis(1),
        fresh: LONG,
    };
    stage.gate.close();
    let settles = tokio::spawn(async move { house.settle(graces).await });
    kept.closes().await;
    assert!(fresh.asks(b'x').await, "its time is not over");
    // It is a kept one now.
    fresh.closes().await;
    tokio::time::timeout(PATIENCE, settles)
        .await
        .expect("nobody is left")
        .unwrap();
    assert_eq!(stage.metrics.crowds.evicted.get(), 0, "nobody took their places");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_connection_that_stays_silent_is_closed_in_the_end() {
    let stage = Stage::new("limits.connections = 9");
    let fresh = stage.client().await;
    stage.accepted(1).await;
    stage.stops();
    fresh.closes().await;
    stage.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_ones_are_left_alone_and_nobody_new_is_let_in() {
    let stage = Stage::new("limits.connections = 9");
    let mut busy = stage.client().await;
    assert!(busy.asks(b'b').await);
    stage.stops();
    let (address, gate) = (stage.address, Arc::clone(&stage.gate));
    stage.ended().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    assert_eq!(gate.count(Class::Connection), 1);
    assert!(busy.asks(b'e').await);
    busy.closes().await;
    gate.empty(Class::Connection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_queue_at_the_stop_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts yet, and the stop comes before anybody does.
    let mut waits = Client(TcpStream::connect(address).await.unwrap());
    let (stop, stopped) = watch::channel(Door::Shut);
    let task = listen(
        vec![listener],
        House::uncounted(9),
        Arc::new(Echo { limit: LONG }),
        stopped,
    )
    .unwrap();
    assert!(waits.asks(b'x').await);
    drop((stop, waits));
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_ones_are_closed_when_their_time_is_over() {
    let stage = Stage::within("limits.connections = 9", Duration::from_millis(1));
    stage.client().await.closes().await;
    stage.open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_who_comes_before_the_door_opens_is_served_then_or_by_the_other_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, others) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
    let begin = |listener, door| {
        let echo = Arc::new(Echo { limit: LONG });
        listen(vec![listener], House::uncounted(9), echo, door).unwrap()
    };
    let (gives_up, door) = watch::channel(Door::NotYet);
    let task = begin(listener, door);
    let mut waits = Client(TcpStream::connect(address).await.unwrap());
    drop(gives_up);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    // Nobody else has taken it.
    let (opens, door) = watch::channel(Door::NotYet);
    let task = begin(others, door);
    opens.send_replace(Door::Open);
    assert!(waits.asks(b'x').await);
    opens.send_replace(Door::Shut);
    drop(waits);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}
