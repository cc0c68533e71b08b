//! A house that is full: who is closed, who is let in, who is not.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn f13_in_a_full_house_the_oldest_silent_connection_is_closed_for_a_new_one() {
    let stage = Stage::new("limits.connections = 3\nlimits.connections_per_ip = 100");
    let mut clients = stage.silent(3).await;
    let (third, second, mut first) = (clients.pop().unwrap(), clients.pop().unwrap(), clients.pop().unwrap());
    assert!(first.asks(b'x').await, "it is not the oldest any more");
    let mut new = stage.client().await;
    assert!(new.asks(b'x').await);
    second.closes().await;
    let mut newer = stage.client().await;
    assert!(newer.asks(b'x').await);
    third.closes().await;
    assert!(first.asks(b'x').await);
    assert_eq!(stage.metrics.crowds.evicted.get(), 2);
    assert_eq!(stage.metrics.connections_refused.get(), 0);
    assert_eq!(stage.metrics.open_connections.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_only_where_all_are_busy_a_new_one_is_refused() {
    let stage = Stage::new("limits.connections = 2\nlimits.connections_per_ip = 100");
    let (mut first, mut second) = (stage.client().await, stage.client().await);
    assert!(first.asks(b'b').await && second.asks(b'b').await);
    stage.client().await.closes().await;
    assert_eq!(stage.metrics.connections_refused.get(), 1);
    assert!(first.asks(b'e').await, "busy ones stay");
    let mut third = stage.client().await;
    assert!(third.asks(b'x').await);
    first.closes().await;
    assert!(second.asks(b'e').await);
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_an_unfinished_head_gives_way_too() {
    let stage = Stage::new("limits.connections = 2\nlimits.connections_per_ip = 100");
    let mut clients = stage.silent(2).await;
    for client in &mut clients {
        assert!(client.sends(b'h').await);
    }
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut new = stage.client().await;
        assert!(new.asks(b'b').await);
        busy.push(new);
    }
    for client in clients {
        client.closes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_crowd_of_silent_connections_stops_nobody() {
    let stage = Stage::new("limits.connections = 100");
    let mut crowd = Vec::new();
    let mut kept = stage.client_of("127.0.0.2").await;
    for round in 0..500 {
        crowd.push(stage.client().await);
        if round % 50 == 0 {
            assert!(
                stage.client_of("127.0.0.3").await.asks(b'x').await,
                "somebody new, in round {round}"
            );
            assert!(
                stage.client().await.asks(b'x').await,
                "of the same address, in round {round}"
            );
        }
    }
    stage.accepted(521).await;
    assert!(
        kept.asks(b'x').await,
        "one of another address is not closed for those of the crowd"
    );
    assert_eq!(stage.metrics.connections_refused.get(), 0);
    assert!(stage.metrics.open_connections.get() <= 100);
    drop((crowd, kept));
    stage.open(0).await;
    assert_eq!(stage.gate.count(Class::Connection), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_limit_of_an_address_refuses_and_trusted_ones_have_none() {
    let stage = Stage::new("limits.connections = 100\nlimits.connections_per_ip = 2\ntrust.proxies = [\"127.0.0.9\"]");
    let mut own = stage.silent(2).await;
    stage.client().await.closes().await;
    assert_eq!(stage.metrics.connections_refused.get(), 1);
    assert!(
        stage.client_of("127.0.0.2").await.asks(b'x').await,
        "others are not concerned"
    );
    let mut trusted = Vec::new();
    for _ in 0..10 {
        let mut client = stage.client_of("127.0.0.9").await;
        assert!(client.asks(b'x').await);
        trusted.push(client);
    }
    for client in &mut own {
        assert!(client.asks(b'x').await, "those that were there stay");
    }
    own.pop();
    becomes("open", || {
        let seen = stage.metrics.open_connections.get();
        (seen <= 12, seen)
    })
    .await;
    let mut next = stage.client().await;
    while !next.asks(b'x').await {
        next = stage.client().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_told_the_peer_and_small_writes_are_sent_at_once() {
    struct Tells(std::sync::mpsc::SyncSender<(SocketAddr, bool)>);
    impl Server for Tells {
        fn serve(self: &Arc<Self>, connection: Connection) {
            let Connection { peer, stream, .. } = connection;
            self.0.send((peer, stream.nodelay().unwrap())).unwrap();
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = watch::channel(Door::Open);
    let task = listen(vec![listener], House::uncounted(1), Arc::new(Tells(tell)), stopped).unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let told = tokio::task::spawn_blocking(move || told.recv_timeout(PATIENCE));
    assert_eq!(told.await.unwrap().unwrap(), (client.local_addr().unwrap(), true));
    drop(stop);
    tokio::time::timeout(PATIENCE, task)
        .await
        .expect("without a master it ends")
        .unwrap();
}
