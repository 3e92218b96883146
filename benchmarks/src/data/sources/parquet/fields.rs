//! What the fields of a Parquet footer and of page headers hold, by the format's definition (parquet.thrift 2.12).

/// What a field holds, in Thrift's compact protocol.
pub(super) enum Holds {
    /// A value of this type.
    Scalar(u8),
    /// True or false, which is part of the field's head; no list has them.
    Truth,
    Fields(&'static [(i64, Holds)]),
    List(&'static Holds),
}

use Holds::{Fields, List, Truth};

const I8: Holds = Holds::Scalar(3);
const I16: Holds = Holds::Scalar(4);
const I32: Holds = Holds::Scalar(5);
const I64: Holds = Holds::Scalar(6);
const DOUBLE: Holds = Holds::Scalar(7);
const BYTES: Holds = Holds::Scalar(8);
const NOTHING: Holds = Fields(&[]);

const STATISTICS: Holds =
    Fields(&[(1, BYTES), (2, BYTES), (3, I64), (4, I64), (5, BYTES), (6, BYTES), (7, Truth), (8, Truth)]);
const KEY_VALUE: Holds = Fields(&[(1, BYTES), (2, BYTES)]);
const TIME_UNIT: Holds = Fields(&[(1, NOTHING), (2, NOTHING), (3, NOTHING)]);
const TIME: Holds = Fields(&[(1, Truth), (2, TIME_UNIT)]);

const LOGICAL_TYPE: Holds = Fields(&[
    (1, NOTHING),
    (2, NOTHING),
    (3, NOTHING),
    (4, NOTHING),
    (5, Fields(&[(1, I32), (2, I32)])),
    (6, NOTHING),
    (7, TIME),
    (8, TIME),
    (10, Fields(&[(1, I8), (2, Truth)])),
    (11, NOTHING),
    (12, NOTHING),
    (13, NOTHING),
    (14, NOTHING),
    (15, NOTHING),
    (16, Fields(&[(1, I8)])),
    (17, Fields(&[(1, BYTES)])),
    (18, Fields(&[(1, BYTES), (2, I32)])),
]);

const SCHEMA_ELEMENT: Holds = Fields(&[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, BYTES),
    (5, I32),
    (6, I32),
    (7, I32),
    (8, I32),
    (9, I32),
    (10, LOGICAL_TYPE),
]);

const BOX: Holds =
    Fields(&[(1, DOUBLE), (2, DOUBLE), (3, DOUBLE), (4, DOUBLE), (5, DOUBLE), (6, DOUBLE), (7, DOUBLE), (8, DOUBLE)]);

const COLUMN: Holds = Fields(&[
    (1, I32),
    (2, List(&I32)),
    (3, List(&BYTES)),
    (4, I32),
    (5, I64),
    (6, I64),
    (7, I64),
    (8, List(&KEY_VALUE)),
    (9, I64),
    (10, I64),
    (11, I64),
    (12, STATISTICS),
    (13, List(&Fields(&[(1, I32), (2, I32), (3, I32)]))),
    (14, I64),
    (15, I32),
    (16, Fields(&[(1, I64), (2, List(&I64)), (3, List(&I64))])),
    (17, Fields(&[(1, BOX), (2, List(&I32))])),
]);

const COLUMN_CHUNK: Holds = Fields(&[
    (1, BYTES),
    (2, I64),
    (3, COLUMN),
    (4, I64),
    (5, I32),
    (6, I64),
    (7, I32),
    (8, Fields(&[(1, NOTHING), (2, Fields(&[(1, List(&BYTES)), (2, BYTES)]))])),
    (9, BYTES),
]);

const ROW_GROUP: Holds = Fields(&[
    (1, List(&COLUMN_CHUNK)),
    (2, I64),
    (3, I64),
    (4, List(&Fields(&[(1, I32), (2, Truth), (3, Truth)]))),
    (5, I64),
    (6, I64),
    (7, I16),
]);

const CIPHER: Holds = Fields(&[(1, BYTES), (2, BYTES), (3, Truth)]);

/// `FileMetaData`.
pub(super) const FILE: &[(i64, Holds)] = &[
    (1, I32),
    (2, List(&SCHEMA_ELEMENT)),
    (3, I64),
    (4, List(&ROW_GROUP)),
    (5, List(&KEY_VALUE)),
    (6, BYTES),
    (7, List(&Fields(&[(1, NOTHING)]))),
    (8, Fields(&[(1, CIPHER), (2, CIPHER)])),
    (9, BYTES),
];

/// `PageHeader`.
pub(super) const PAGE_HEADER: &[(i64, Holds)] = &[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, I32),
    (5, Fields(&[(1, I32), (2, I32), (3, I32), (4, I32), (5, STATISTICS)])),
    (6, NOTHING),
    (7, Fields(&[(1, I32), (2, I32), (3, Truth)])),
    (8, Fields(&[(1, I32), (2, I32), (3, I32), (4, I32), (5, I32), (6, I32), (7, Truth), (8, STATISTICS)])),
];
