//! Members that find each other over loopback, and everybody else who calls.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cluster::frame::{FrameError, MAX_BODY, Talk};
use crate::cluster::handshake;
use crate::cluster::{ClusterError, Listen, Members, Mismatch, Secret, connect};
use crate::exit::Exit;

pub(super) const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(2);

type Connected = Result<Vec<Option<TcpStream>>, ClusterError>;

/// Members of one cluster that listen on free ports.
pub(super) fn cluster(processes: usize) -> Vec<Members> {
    let listeners: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    let member = |(index, listener)| Members {
        index,
        addresses: addresses.clone(),
        threads: 2,
        run_id: "run-1".into(),
        plan_hash: "plan-a".into(),
        build: "build-a".into(),
        silence: Duration::from_secs(25),
        secret: None,
        tls: None,
        listen: Listen::Ready(listener),
    };
    listeners.into_iter().enumerate().map(member).collect()
}

/// Somebody who claims the place of `like`, listening elsewhere.
fn other(like: &Members) -> Members {
    Members {
        index: like.index,
        addresses: like.addresses.clone(),
        threads: like.threads,
        run_id: like.run_id.clone(),
        plan_hash: like.plan_hash.clone(),
        build: like.build.clone(),
        silence: like.silence,
        secret: like.secret.clone(),
        tls: like.tls.clone(),
        listen: Listen::At("127.0.0.1:0".into()),
    }
}

fn start(members: Members, limit: Duration) -> JoinHandle<Connected> {
    std::thread::spawn(move || connect(&members, limit))
}

fn address(members: &Members, index: usize) -> String {
    members.addresses[index].clone()
}

/// Both ends of every connection belong to whom the tables say.
fn assert_meshed(all: &[Vec<Option<TcpStream>>]) {
    for (i, sockets) in all.iter().enumerate() {
        assert_eq!(sockets.len(), all.len());
        assert!(sockets[i].is_none());
        for (j, socket) in sockets.iter().enumerate().filter(|(j, _)| *j != i) {
            socket.as_ref().unwrap().write_all(&[i as u8, j as u8]).unwrap();
        }
    }
    for (i, sockets) in all.iter().enumerate() {
        for (j, socket) in sockets.iter().enumerate().filter(|(j, _)| *j != i) {
            let mut bytes = [0; 2];
            socket.as_ref().unwrap().read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [j as u8, i as u8], "nothing is left over from the handshake");
        }
    }
}

#[test]
fn three_members_connect_with_each_other() {
    for secret in [None, Some(Secret::new("s3cret"))] {
        let mut members = cluster(3);
        members.iter_mut().for_each(|m| m.secret = secret.clone());
        // The last one first: it must wait for those that it dials.
        let waiting: Vec<_> = members.into_iter().rev().map(|m| start(m, LONG)).collect();
        let all: Vec<_> = waiting.into_iter().rev().map(|w| w.join().unwrap().unwrap()).collect();
        assert_meshed(&all);
        let socket = all[0][1].as_ref().unwrap();
        assert_eq!((socket.read_timeout().unwrap(), socket.write_timeout().unwrap()), (None, None));
        assert!(socket.nodelay().unwrap());
        let options = socket2::SockRef::from(socket);
        assert!(options.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            let silence = options.tcp_keepalive_time().unwrap() + 3 * options.tcp_keepalive_interval().unwrap();
            assert!(silence < Duration::from_secs(30) && options.tcp_user_timeout().unwrap().unwrap() < Duration::from_secs(30));
        }
    }
}

#[test]
fn one_member_needs_nobody() {
    let only = cluster(1).remove(0);
    assert!(matches!(connect(&only, SHORT).unwrap().as_slice(), [None]));
}

/// Reads until the other side hangs up; fails if it does not.
fn until_hung_up(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        Err(e) => panic!("still connected: {e}"),
    }
    all
}

#[test]
fn strangers_are_turned_away_and_listening_goes_on() {
    let mut members = cluster(2);
    let at = address(&members[0], 0);
    let zero = start(members.remove(0), LONG);

    let mut http = TcpStream::connect(&at).unwrap();
    http.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(until_hung_up(http).is_empty(), "a stranger learns nothing");

    let mut garbage = TcpStream::connect(&at).unwrap();
    garbage.write_all(&[0xff; 64]).unwrap();
    assert!(until_hung_up(garbage).is_empty());

    let mut greedy = TcpStream::connect(&at).unwrap();
    greedy.write_all(b"curette\0\x00\x02\xff\xff").unwrap();
    assert!(until_hung_up(greedy).is_empty());

    let mut garbled = TcpStream::connect(&at).unwrap();
    garbled.write_all(b"curette\0\x00\x02\x00\x04nope").unwrap();
    assert!(until_hung_up(garbled).is_empty());

    drop(TcpStream::connect(&at).unwrap());

    assert_meshed(
        &[start(members.remove(0), LONG), zero].map(|w| w.join().unwrap().unwrap()).into_iter().rev().collect::<Vec<_>>(),
    );
}

#[test]
fn a_slow_caller_delays_nobody_and_is_cut_off() {
    let mut members = cluster(2);
    let at = address(&members[0], 0);
    let zero = start(members.remove(0), LONG);
    let silent = TcpStream::connect(&at).unwrap();
    let mut dripping = TcpStream::connect(&at).unwrap();
    let started = Instant::now();
    let cut_off = std::thread::spawn(move || {
        // One byte of a proper frame at a time: each comes in time, the whole does not.
        for byte in b"curette\0\x00\x02\x00\x40".iter().cycle().take(200) {
            if dripping.write_all(&[*byte]).is_err() {
                return started.elapsed();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("never cut off");
    });
    std::thread::sleep(Duration::from_millis(300));
    let one = start(members.remove(0), LONG);
    let both = [zero.join().unwrap().unwrap(), one.join().unwrap().unwrap()];
    assert!(started.elapsed() < Duration::from_secs(4), "the two did not wait for the slow ones: {:?}", started.elapsed());
    assert_meshed(&both);
    assert!(cut_off.join().unwrap() < Duration::from_secs(15));
    until_hung_up(silent);
}

#[test]
fn a_silent_caller_is_cut_off_while_the_wait_goes_on() {
    let mut members = cluster(2);
    let at = address(&members[0], 0);
    let zero = start(members.remove(0), LONG);
    let started = Instant::now();
    until_hung_up(TcpStream::connect(&at).unwrap());
    assert!((4..14).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_meshed(&[zero, start(members.remove(0), LONG)].map(|w| w.join().unwrap().unwrap()));
}

#[test]
fn another_plan_is_reported_at_once_by_both_sides() {
    for secret in [None, Some(Secret::new("s3cret"))] {
        let mut members = cluster(2);
        members.iter_mut().for_each(|m| m.secret = secret.clone());
        let mut wrong = other(&members[1]);
        wrong.plan_hash = "plan-b".into();
        let zero = start(members.remove(0), LONG);
        for (e, me, you, here, there) in
            [(connect(&wrong, LONG).unwrap_err(), 1, 0, 'b', 'a'), (zero.join().unwrap().unwrap_err(), 0, 1, 'a', 'b')]
        {
            // A wait to the limit would be another error.
            assert_eq!(e.exit(), Exit::PlanChanged);
            let text = e.to_string();
            assert!(text.starts_with(&format!("process {me} and process {you} at 127.0.0.1:")), "{text}");
            let says =
                format!("their plans differ (plan-{here} here, plan-{there} there); give every process the same pipeline file");
            assert!(text.contains(&says), "{text}");
        }
    }
}

#[test]
fn another_build_is_reported_at_once_by_both_sides() {
    let mut members = cluster(2);
    members.iter_mut().for_each(|m| m.secret = Some(Secret::new("s3cret")));
    let mut wrong = other(&members[1]);
    wrong.build = "build-b".into();
    let zero = start(members.remove(0), LONG);
    for (e, here, there) in [(connect(&wrong, LONG).unwrap_err(), 'b', 'a'), (zero.join().unwrap().unwrap_err(), 'a', 'b')] {
        assert_eq!(e.exit(), Exit::Mistake);
        let says = format!("different builds (build-{here} here, build-{there} there); run the same executable everywhere");
        assert!(e.to_string().contains(&says), "{e}");
    }
}

#[test]
fn the_silence_that_is_borne_can_be_set() {
    let mut members = cluster(2);
    members.iter_mut().for_each(|m| m.silence = Duration::from_secs(2));
    let all: Vec<_> = members.into_iter().map(|m| start(m, LONG)).collect();
    for sockets in all.into_iter().map(|w| w.join().unwrap().unwrap()) {
        let socket = sockets.iter().flatten().next().unwrap();
        let options = socket2::SockRef::from(socket);
        assert_eq!(options.tcp_keepalive_interval().unwrap(), Duration::from_secs(1), "the kernel knows no less");
        #[cfg(target_os = "linux")]
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(Duration::from_secs(2)));
    }
}

#[test]
fn another_plan_of_another_run_or_without_the_secret_ends_nothing() {
    type Change = fn(&mut Members);
    let changes: [Change; 2] = [|m| m.run_id = "run-0".into(), |m| m.secret = Some(Secret::new("guessed"))];
    for change in changes {
        let mut members = cluster(2);
        members.iter_mut().for_each(|m| m.secret = Some(Secret::new("s3cret")));
        let mut wrong = other(&members[1]);
        wrong.plan_hash = "plan-b".into();
        change(&mut wrong);
        let zero = start(members.remove(0), LONG);
        connect(&wrong, SHORT).unwrap_err();
        assert_meshed(&[zero, start(members.remove(0), LONG)].map(|w| w.join().unwrap().unwrap()));
    }
}

#[test]
fn the_listener_says_at_its_deadline_whom_it_refused() {
    let mut members = cluster(2);
    let mut wrong = other(&members[1]);
    wrong.threads = 3;
    let zero = start(members.remove(0), SHORT);
    connect(&wrong, LONG).unwrap_err();
    let e = zero.join().unwrap().unwrap_err();
    assert_eq!(e.exit(), Exit::PeerLost);
    let text = e.to_string();
    assert!(text.starts_with("process 0 waited 2 s for the others; process 1 at 127.0.0.1:"), "{text}");
    assert!(text.contains("is missing (has not called); refused meanwhile: 127.0.0.1:"), "{text}");
    assert!(text.contains("2 worker threads here and 3 there"), "{text}");
}

#[test]
fn what_can_never_fit_ends_the_wait_of_the_dialer() {
    type Case = (fn(&mut Members), fn(&Mismatch) -> bool);
    let cases: [Case; 4] = [
        (|m| m.threads = 3, |x| matches!(x, Mismatch::Threads { ours: 3, theirs: 2 })),
        (|m| m.addresses.push("127.0.0.1:1".into()), |x| matches!(x, Mismatch::Processes { ours: 4, theirs: 3 })),
        (|m| m.secret = Some(Secret::new("x")), |x| matches!(x, Mismatch::Secret)),
        (|m| m.addresses.swap(0, 1), |x| matches!(x, Mismatch::Index { .. })),
    ];
    for (change, expected) in cases {
        let mut members = cluster(3);
        let mut wrong = other(&members[2]);
        change(&mut wrong);
        let rest: Vec<_> = members.drain(..2).map(|m| start(m, SHORT)).collect();
        match connect(&wrong, LONG) {
            Err(e @ ClusterError::Differs { .. }) => {
                assert_eq!(e.exit(), Exit::Mistake);
                let ClusterError::Differs { mismatch, .. } = e else { unreachable!() };
                assert!(expected(&mismatch), "{mismatch:?}");
            }
            other => panic!("{other:?}"),
        }
        rest.into_iter().for_each(|w| drop(w.join().unwrap().unwrap_err()));
    }
}

#[test]
fn a_wrong_secret_is_noticed_by_both() {
    let mut members = cluster(2);
    members[0].secret = Some(Secret::new("right"));
    members[1].secret = Some(Secret::new("wrong"));
    assert!(!format!("{:?}", members[0]).contains("right"));
    let zero = start(members.remove(0), SHORT);
    let e = connect(&members[0], LONG).unwrap_err();
    assert!(matches!(e, ClusterError::Differs { mismatch: Mismatch::Secret, .. }), "{e}");
    let e = zero.join().unwrap().unwrap_err().to_string();
    assert!(e.contains("they do not share the same cluster secret"), "{e}");
    assert!(!e.contains("right"));
}

#[test]
fn a_leftover_of_another_run_may_go_away_so_it_is_tried_again() {
    let mut members = cluster(2);
    let mut stale = other(&members[1]);
    stale.run_id = "run-0".into();
    let zero = start(members.remove(0), LONG);
    let e = connect(&stale, SHORT).unwrap_err();
    let text = e.to_string();
    assert!(matches!(e, ClusterError::Deadline { .. }), "{text}");
    assert!(text.contains("they belong to different runs (run-0 here, run-1 there)"), "{text}");
    assert_meshed(&[zero, start(members.remove(0), LONG)].map(|w| w.join().unwrap().unwrap()));
}

#[test]
fn a_second_process_with_the_same_index_is_refused() {
    let mut members = cluster(3);
    let second = other(&members[1]);
    let zero = start(members.remove(0), LONG);
    let one = start(members.remove(0), LONG);
    std::thread::sleep(Duration::from_millis(500));
    let e = connect(&second, SHORT).unwrap_err().to_string();
    assert!(e.contains("process 1 is connected already; was the same --process given twice?"), "{e}");
    let two = start(members.remove(0), LONG);
    assert_meshed(&[zero, one, two].map(|w| w.join().unwrap().unwrap()));
}

#[test]
fn a_process_that_was_restarted_gets_its_place_back() {
    let mut members = cluster(3);
    let first = other(&members[1]);
    let zero = start(members.remove(0), LONG);
    let stream = TcpStream::connect(address(&first, 0)).unwrap();
    let stop = AtomicBool::new(false);
    handshake::dial(&mut Talk { stream: &stream, until: Instant::now() + SHORT, stop: &stop }, &first, 0).unwrap();
    drop(stream);
    let rest: Vec<_> = members.into_iter().map(|m| start(m, LONG)).collect();
    let all: Vec<_> = std::iter::once(zero).chain(rest).map(|w| w.join().unwrap().unwrap()).collect();
    assert_meshed(&all);
}

#[test]
fn a_lower_process_that_dies_while_others_are_missing_is_named_at_once() {
    let mut members = cluster(3);
    let Listen::Ready(listener) = std::mem::take(&mut members[0].listen) else { unreachable!() };
    let (zero, one) = (members.remove(0), start(members.remove(0), LONG));
    let (stream, _) = listener.accept().unwrap();
    let stop = AtomicBool::new(false);
    handshake::answer(&mut Talk { stream: &stream, until: Instant::now() + SHORT, stop: &stop }, &zero, |_| true).unwrap();
    let started = Instant::now();
    drop(stream);
    let e = one.join().unwrap().unwrap_err();
    assert!(matches!(e, ClusterError::LostAtStart { peer: 0, .. }), "{e}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_member_that_dies_before_the_start_is_named() {
    let mut members = cluster(3);
    let fake = other(&members[2]);
    let addresses = [address(&fake, 0), address(&fake, 1)];
    let waiting: Vec<_> = members.drain(..2).map(|m| start(m, LONG)).collect();
    let stop = AtomicBool::new(false);
    let streams = addresses.map(|a| TcpStream::connect(a).unwrap());
    for (peer, stream) in streams.iter().enumerate() {
        handshake::dial(&mut Talk { stream, until: Instant::now() + SHORT, stop: &stop }, &fake, peer).unwrap();
    }
    for stream in &streams {
        // It goes away only when the others are ready and wait for nothing but its last word.
        stream.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
    }
    drop(streams);
    for wait in waiting {
        let e = wait.join().unwrap().unwrap_err();
        assert_eq!(e.exit(), Exit::PeerLost);
        assert!(matches!(e, ClusterError::LostAtStart { .. }), "{e}");
    }
}

#[test]
fn the_deadline_holds_for_both_sides() {
    for index in [0, 1] {
        let mut members = cluster(2);
        let alone = members.remove(index);
        drop(members);
        let started = Instant::now();
        let e = connect(&alone, Duration::from_millis(700)).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let expected = ["is missing (has not called)", "is missing (Connection refused (os error 111))"][index];
        assert!(e.to_string().contains(expected), "{e}");
    }
}

#[test]
fn something_else_that_answers_on_the_address_is_said_so() {
    let mut members = cluster(2);
    let Listen::Ready(listener) = std::mem::take(&mut members[0].listen) else { unreachable!() };
    let web = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let e = connect(&members[1], Duration::from_millis(700)).unwrap_err().to_string();
    web.join().unwrap();
    assert!(
        e.contains("it does not speak curette's protocol: it began with \"HTTP/1.1\"") || e.contains("Connection refused"),
        "{e}"
    );
}

#[test]
fn another_version_is_named_on_both_sides() {
    let mut members = cluster(2);
    let at = address(&members[0], 0);
    let zero = start(members.remove(0), SHORT);
    let mut newer = TcpStream::connect(at).unwrap();
    newer.write_all(b"curette\0\x00\x09\x00\x02{}").unwrap();
    let answer = until_hung_up(newer);
    assert!(answer.starts_with(b"curette\0\x00\x02"), "our version is in the answer");
    let e = zero.join().unwrap().unwrap_err().to_string();
    assert!(e.contains("it speaks version 9 of the protocol, this process version 2"), "{e}");
}

#[test]
fn an_address_that_is_taken_or_not_ours() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut member = cluster(2).remove(0);
    member.listen = Listen::At(taken.local_addr().unwrap().to_string());
    let e = connect(&member, SHORT).unwrap_err();
    assert_eq!(e.exit(), Exit::PeerLost, "a port may become free");
    member.listen = Listen::OwnAddress;
    member.addresses[0] = "192.0.2.1:2101".into();
    let e = connect(&member, SHORT).unwrap_err();
    assert_eq!(e.exit(), Exit::Mistake);
    assert!(e.to_string().starts_with("process 0 cannot listen on 192.0.2.1:2101: "), "{e}");
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    let mut talk = Talk { stream: &stream, until: Instant::now() + SHORT, stop: &stop };
    assert!(matches!(talk.send(&"x".repeat(MAX_BODY)), Err(FrameError::TooLong(_))));
    let mut member = cluster(2).remove(0);
    member.run_id = "x".repeat(1000);
    assert!(matches!(connect(&member, SHORT), Err(ClusterError::BadMembers(_))));
}
