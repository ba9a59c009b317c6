//! Reading the blocks of a coded cache in kernels: [`BlockLayout`] has their words.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use qins_quant::kv::{BLOCK, BlockLayout, SINKS};

use super::{
    attend::UNITS,
    kv::{Form, Vectors, number},
    matrix::widened,
};

/// Tokens of a block.
pub(super) const TOKENS: u32 = BLOCK as u32;
/// Bits of codes that are bytes.
const BYTES: u32 = 8;

/// The compile-time parameters of a coded cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Codes {
    pub(super) layout: BlockLayout,
    /// Pairs of channels that are rotated.
    pub(super) pairs: u32,
}

/// The closed blocks of all heads.
#[derive(CubeLaunch, CubeType)]
pub(super) struct Closed {
    words: Box<[u32]>,
    /// Words from a head to the next.
    stride: u32,
    /// The number of closed blocks; those after them are plain.
    blocks: u32,
    /// Block i is in place of block i − `ring`.
    ring: u32,
}

/// Decodes keys of one block into shared memory, rotated by their places in it. `turns` are those of
/// [`by_block`](qins_quant::kv::Rotations::by_block).
#[cube]
pub(super) fn keys(
    shared: &mut Shared<[f32]>,
    closed: &Closed,
    open: &Vectors,
    turns: &[f32],
    head: u32,
    first: u32,
    tokens: u32,
    #[comptime] codes: Codes,
) {
    let (dim, pairs) = comptime!((codes.layout.dim as u32, codes.pairs));
    let mut i = UNIT_POS;
    // Along the tokens, which share the words of a channel.
    while i < tokens * comptime!(dim - pairs) {
        let (c, token) = (i / tokens, first + i % tokens);
        let at = (i % tokens) * comptime!(dim + 1);
        let other = key(closed, open, head, token, c + pairs, codes);
        if c < pairs {
            let own = key(closed, open, head, token, c, codes);
            let row = token % TOKENS * comptime!(2 * pairs);
            let (cos, sin) = (turns[(row + c) as usize], turns[(row + pairs + c) as usize]);
            shared[(at + c) as usize] = own * cos - other * sin;
            shared[(at + c + pairs) as usize] = other * cos + own * sin;
        } else {
            shared[(at + c + pairs) as usize] = other;
        }
        i += comptime!(UNITS as u32);
    }
}

/// Decodes values of one block into shared memory, still transformed.
#[cube]
pub(super) fn values(
    shared: &mut Shared<[f32]>,
    closed: &Closed,
    open: &Vectors,
    head: u32,
    first: u32,
    tokens: u32,
    #[comptime] codes: Codes,
) {
    let dim = comptime!(codes.layout.dim as u32);
    let mut i = UNIT_POS;
    while i < tokens * dim {
        let (token, c) = (i / dim, i % dim);
        shared[(token * comptime!(dim + 1) + c) as usize] = value(closed, open, head, first + token, c, codes);
        i += comptime!(UNITS as u32);
    }
}

/// A query turned back by the angle of a block's first position: element `c` of the one at `at`.
#[cube]
pub(super) fn turned(queries: &[f32], at: u32, c: u32, turns: &[f32], block: u32, #[comptime] codes: Codes) -> f32 {
    let pairs = comptime!(codes.pairs);
    let mut x = queries[(at + c) as usize];
    if c < comptime!(2 * pairs) {
        let first = c < pairs;
        let other = queries[(at + select(first, c + pairs, c - pairs.min(c))) as usize];
        let row = (TOKENS + block) * comptime!(2 * pairs) + c % comptime!(pairs.max(1));
        let (cos, sin) = (turns[row as usize], turns[(row + pairs) as usize]);
        x = x * cos + select(first, other, -other) * sin;
    }
    x
}

/// Channel `c` of the key of a token, before its rotation.
#[cube]
fn key(closed: &Closed, open: &Vectors, head: u32, token: u32, c: u32, #[comptime] codes: Codes) -> f32 {
    let layout = comptime!(codes.layout);
    let dim = comptime!(layout.dim as u32);
    if token / TOKENS >= closed.blocks {
        number(open, head, token - closed.blocks * TOKENS, c, dim, Form::Float)
    } else if token < comptime!(SINKS as u32) {
        f32::reinterpret(closed.words[(head * closed.stride + (1 + token) * dim + c) as usize])
    } else {
        let at = place(closed, head, token / TOKENS, codes);
        let channel = closed.words[(at + c) as usize];
        let scale = byte_scale(channel & 0xff);
        let sixteenths = channel >> 8 & 0xff;
        // In two's complement.
        let offset = f32::cast_from(sixteenths) - select(sixteenths >= 128, 256.0, 0.0);
        let planes = at + comptime!(layout.key_planes() as u32) + 2 * (channel >> 19);
        let place = token % TOKENS;
        let level = if comptime!(layout.bits.keys as u32 == BYTES) {
            byte_level(closed.words[(planes + place / 4) as usize] >> (8 * (place % 4)))
        } else {
            let (word, shift) = (place / 32, place % 32);
            let own = closed.words[(planes + word) as usize];
            let before = select(word > 0, closed.words[planes as usize], 0u32);
            // The lowest bits of this code and of the two before it.
            let three = select(
                shift >= 2,
                own >> (shift.max(2) - 2),
                own << (2 - shift.min(2)) | before >> (30 + shift.min(1)),
            );
            let mut index = class(three >> 2 & 1, three >> 1 & 1, three & 1);
            let bits = (channel >> 16 & 7) + 1;
            for bit in 1..bits {
                index |= (closed.words[(planes + 2 * bit + word) as usize] >> shift & 1) << (bit + 1);
            }
            trellis_level(index, bits)
        };
        let base = f32::reinterpret(closed.words[(head * closed.stride + c) as usize]);
        scale * level + (base + scale * (offset / 16.0))
    }
}

/// Channel `c` of the transformed value of a token.
#[cube]
fn value(closed: &Closed, open: &Vectors, head: u32, token: u32, c: u32, #[comptime] codes: Codes) -> f32 {
    let layout = comptime!(codes.layout);
    let (dim, bits) = comptime!((layout.dim as u32, layout.bits.values as u32));
    if token / TOKENS >= closed.blocks {
        number(open, head, token - closed.blocks * TOKENS, c, dim, Form::Float)
    } else if token < comptime!(SINKS as u32) {
        let values = comptime!(1 + SINKS as u32);
        f32::reinterpret(closed.words[(head * closed.stride + (values + token) * dim + c) as usize])
    } else {
        let at = place(closed, head, token / TOKENS, codes);
        let (place, group, lane) = (token % TOKENS, c / 32, c % 32);
        let scale = place * comptime!(layout.groups() as u32) + group;
        let scales = closed.words[(at + comptime!(layout.value_scales() as u32) + scale / 4) as usize];
        let scale = byte_scale(scales >> (8 * (scale % 4)) & 0xff);
        let own = at + comptime!(layout.value_planes() as u32) + (group * TOKENS + place) * bits;
        let level = if comptime!(bits == BYTES) {
            byte_level(closed.words[(own + lane / 4) as usize] >> (8 * (lane % 4)))
        } else {
            // What is read before the first token's is not used.
            let u = closed.words[own as usize] >> lane & 1;
            let before = select(place >= 1, closed.words[(own - bits) as usize] >> lane & 1, 0u32);
            let earlier = select(place >= 2, closed.words[(own - 2 * bits) as usize] >> lane & 1, 0u32);
            let mut index = class(u, before, earlier);
            for bit in 1..bits {
                index |= (closed.words[(own + bit) as usize] >> lane & 1) << (bit + 1);
            }
            trellis_level(index, bits)
        };
        scale * level
    }
}

/// The first word of a closed block.
#[cube]
fn place(closed: &Closed, head: u32, block: u32, #[comptime] codes: Codes) -> u32 {
    let words = block % closed.ring * comptime!(codes.layout.block() as u32);
    head * closed.stride + comptime!(codes.layout.head() as u32) + words
}

/// The scale of a byte, the upper one of an `f16`.
#[cube]
fn byte_scale(byte: u32) -> f32 {
    widened(byte << 7, false)
}

/// The level of a byte, whatever bits are above it.
#[cube]
fn byte_level(word: u32) -> f32 {
    (f32::cast_from(word & 0xff) - 127.5) * comptime!(1.0f32 / 127.5)
}

/// The lowest two bits of an index, from the lowest bits of its code, of that before it, and of that before this.
#[cube]
fn class(u: u32, before: u32, earlier: u32) -> u32 {
    before | (u ^ earlier) << 1
}

/// The level of an index in the trellis of codes of some bits.
#[cube]
fn trellis_level(index: u32, bits: u32) -> f32 {
    let half = f32::cast_from(1u32 << bits) - 0.5;
    let q = f32::cast_from(index) - half;
    q / (half + (half - q.abs()))
}
