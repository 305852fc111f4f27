//! Packets made by hand, one of each kind.

use super::structure::{Framing, Shape, Syntax};
use proptest::prelude::*;

fn lengths(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|u| [&(u.len() as u32).to_be_bytes()[..], u].concat()).collect()
}

fn codes(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|u| [&[0, 0, 1][..], u].concat()).collect()
}

#[test]
fn h264_packets_are_what_their_headers_say() {
    let avc = Syntax::H264(Framing::Lengths(4));
    let annex_b = Syntax::H264(Framing::StartCodes);
    let idr: &[&[u8]] = &[&[0x67, 66, 0, 31, 0xDA, 0x01, 0x40, 0x16, 0xE0], &[0x68, 0xEE], &[0x65, 0b1000_1000, 0x80]]; // ue 0, ue 7: an I slice
    let shape = Shape { key: true, alone: true, sync: true, reference: true, shown: true, both_ways: false, layer: 0 };
    assert_eq!(avc.shape(&lengths(idr)), Some(shape));
    assert_eq!(annex_b.shape(&codes(idr)), Some(shape));
    let other = Shape { key: false, alone: false, sync: false, ..shape };
    let b: &[&[u8]] = &[&[0x01, 0b1010_0000, 0x80]]; // ue 0, ue 1: a B slice that nothing refers to
    assert_eq!(avc.shape(&lengths(b)), Some(Shape { reference: false, both_ways: true, ..other }));
    let intra: &[&[u8]] = &[&[0x41, 0b1000_1000, 0x80]];
    let recovery: &[&[u8]] = &[&[0x06, 6, 1, 0xC4, 0x80], intra[0]];
    assert_eq!(avc.shape(&lengths(recovery)), Some(Shape { alone: false, sync: false, ..shape }));
    assert_eq!(avc.shape(&lengths(intra)), Some(Shape { alone: false, sync: false, key: false, ..shape }));
    let fields: &[&[u8]] = &[b[0], b[0]];
    assert_eq!(avc.shape(&lengths(fields)), None);
    assert_eq!(avc.shape(&lengths(&[&[0x02, 0xFF]])), None, "data partitions");
    assert_eq!(avc.shape(&[0, 0, 0, 9, 1]), None, "lengths that do not add up");
}

#[test]
fn hevc_layers_and_refreshes_are_seen() {
    let syntax = Syntax::Hevc(Framing::Lengths(4));
    let at = |kind: u8, layer: u8| syntax.shape(&lengths(&[&[kind << 1, layer + 1, 0x80, 0]]));
    let shape = Shape { key: false, alone: false, sync: false, reference: false, shown: true, both_ways: false, layer: 0 };
    assert_eq!(at(0, 2), Some(Shape { layer: 2, ..shape }));
    assert_eq!(at(1, 0), Some(Shape { reference: true, ..shape }));
    assert_eq!(at(19, 0), Some(Shape { key: true, alone: true, sync: true, reference: true, ..shape }));
    assert_eq!(at(21, 0), Some(Shape { key: true, alone: true, reference: true, ..shape }));
    assert_eq!(at(25, 0), None);
    assert_eq!(syntax.shape(&lengths(&[&[3, 9, 0x80, 0]])), None, "a second layer");
}

#[test]
fn the_other_codecs_say_where_they_restart() {
    assert_eq!(Syntax::Vp8.shape(&[0x10, 2, 0]), Some(Shape::chained(true, true)));
    assert_eq!(Syntax::Vp8.shape(&[0x01, 2, 0]), Some(Shape::chained(false, false)));
    assert_eq!(Syntax::Vp9.shape(&[0x82, 0x49, 0x83, 0x42]), Some(Shape::chained(true, true)));
    assert_eq!(Syntax::Vp9.shape(&[0x84, 0, 0]), Some(Shape::chained(false, false)), "hidden");
    assert_eq!(Syntax::Vp9.shape(&[0x84, 0, 0xC1]), Some(Shape::chained(false, true)), "hidden and shown");
    let delimiter: &[u8] = &[0x12, 0];
    let frame = |first: u8| [delimiter, &[0x32, 2, first, 0]].concat();
    assert_eq!(Syntax::Av1.shape(&frame(0b0001_0000)), Some(Shape::chained(true, true)));
    assert_eq!(Syntax::Av1.shape(&frame(0b0011_0000)), Some(Shape::chained(false, true)));
    assert_eq!(Syntax::Av1.shape(&frame(0b0000_0000)), Some(Shape::chained(false, false)), "shown later");
    let picture = |kind: u8| -> Vec<u8> { codes(&[&[0x00, 0, kind << 3, 0], &[0xB5, 0x80, 0, 3, 0]]) };
    let shape = Shape { key: true, alone: true, sync: false, reference: true, shown: true, both_ways: false, layer: 0 };
    assert_eq!(Syntax::Mpeg2.shape(&picture(1)), Some(shape));
    assert_eq!(
        Syntax::Mpeg2.shape(&picture(3)),
        Some(Shape { key: false, alone: false, reference: false, both_ways: true, ..shape })
    );
    let closed = [codes(&[&[0xB8, 0, 0, 0, 0x40]]), picture(1)].concat();
    assert_eq!(Syntax::Mpeg2.shape(&closed), Some(Shape { sync: true, ..shape }));
    assert_eq!(
        Syntax::Mpeg4.shape(&codes(&[&[0xB6, 0x80]])),
        Some(Shape { key: false, alone: false, reference: false, both_ways: true, ..shape })
    );
    assert_eq!(Syntax::Mpeg4.shape(&codes(&[&[0xB6, 0x40], &[0xB6, 0x80]])), None, "packed");
}

#[test]
fn times_that_are_made_up_are_seen() {
    let shape = |both_ways| Shape { both_ways, ..Shape::chained(false, true) };
    let orderly = |syntax, packets: &[(bool, u64)]| super::structure::orderly(syntax, packets.iter().map(|p| (shape(p.0), p.1)));
    let true_times = [(false, 0), (false, 3), (true, 1), (true, 2), (false, 6), (true, 4), (true, 5)];
    let made_up = [(false, 0), (false, 1), (true, 2), (true, 3), (false, 4), (true, 5), (true, 6)];
    for syntax in [Syntax::Mpeg2, Syntax::Mpeg4, Syntax::H264(Framing::StartCodes)] {
        assert!(orderly(syntax, &true_times) && !orderly(syntax, &made_up), "{syntax:?}");
        assert!(orderly(syntax, &[(false, 0), (false, 1)]), "{syntax:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for framing in [Framing::StartCodes, Framing::Lengths(1), Framing::Lengths(4)] {
            let _ = Syntax::H264(framing).shape(&bytes);
            let _ = Syntax::Hevc(framing).shape(&bytes);
        }
        for syntax in [Syntax::Vp8, Syntax::Vp9, Syntax::Av1, Syntax::Mpeg2, Syntax::Mpeg4] {
            let _ = syntax.shape(&bytes);
        }
    }
}
