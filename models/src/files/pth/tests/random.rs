//! Files that nobody meant.

use super::crafted::{bounded, checkpoint, claims, global, program};
use crate::files::pth::read;
use proptest::prelude::*;
use robust_core::Kind;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_byte_flips_never_panic_nor_make_more_than_the_file_accounts_for(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..5),
    ) {
        let files: [&[u8]; 4] = [
            include_bytes!("../../../../tests/golden/mnist_protocol4.pth"),
            include_bytes!("../../../../tests/golden/mnist_foreign.pth"),
            &checkpoint(&claims(&global("torch", "FloatStorage"), "0", 6, 1, &[2, 2], &[1, 2])),
            include_bytes!("../../../../tests/golden/stranger_script.pt"),
        ];
        let mut bytes = files[which].to_vec();
        changes.iter().for_each(|(place, value)| bytes[place.index(files[which].len())] ^= value);
        bounded(&bytes)?;
    }

    #[test]
    fn random_programs_never_panic(parts in prop::collection::vec(prop::sample::select(vec![
        &b"c__torch__\nM\n"[..], b")", b"\x81", b"}", b"(", b"u", b"b", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"X\x01\0\0\0a", b"s", b"N",
        b"c__torch__\nM\n)\x81}(", b"X\x01\0\0\0bc__torch__\nM\n)\x81}(", b"ub", b"X\x01\0\0\0c",
    ]), 0..40)) {
        if let Err(e) = read(&program(&[b"\x80\x02", &parts.concat()[..], b"."].concat()), None) {
            prop_assert!(matches!(e.kind, Kind::Load), "{}", e);
        }
    }

    #[test]
    fn random_opcodes_never_panic(pickle in prop::collection::vec(prop::sample::select(b"\x80\x02()]}NKJ01qhjrtl\x85\x86\x87\x94aesuRbQd\x81c\n\x93X\x8a\x8c\x00\x01.".to_vec()), 0..60)) {
        if let Err(e) = read(&checkpoint(&pickle), None) {
            prop_assert!(matches!(e.kind, Kind::Load), "{}", e);
        }
    }
}
