//! No kernel reads past the end of what it is given: memory there cannot be read.

#![cfg(target_os = "linux")]
// Memory that is mapped beyond its file's end has no other use than this.
#![allow(unsafe_code)]

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};
use qins_quant::{
    EncodedTensor, FloatDtype, GroupedRows, Scheme,
    kernel::{Rows, Simd, linear_on},
};

use crate::common::{Random, bits};

/// At least the size of a page, and a multiple of it, on every machine.
const PAGE: usize = 1 << 16;

/// A copy of some elements, followed by a page that cannot be read.
struct Guarded {
    map: MmapMut,
    start: usize,
    length: usize,
}

impl Guarded {
    fn new<T: Pod>(elements: &[T]) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let pages = bytes.len().next_multiple_of(PAGE);
        let file = tempfile::tempfile().unwrap();
        file.set_len(pages as u64).unwrap();
        // SAFETY: nobody else has the file. Pages after its end are mapped, but a read there is SIGBUS.
        let mut map = unsafe { MmapOptions::new().len(pages + PAGE).map_mut(&file).unwrap() };
        let start = pages - bytes.len();
        map[start..pages].copy_from_slice(bytes);
        Self { map, start, length: bytes.len() }
    }

    fn get<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.map[self.start..self.start + self.length])
    }
}

/// The same product where every part of the matrix ends at the end of a page.
fn guarded(w: Rows<'_>, run: &mut dyn FnMut(Rows<'_>)) {
    match w {
        Rows::Dense(w) => run(Rows::Dense(Guarded::new(w).get())),
        Rows::Half { words, stride, bf16 } => run(Rows::Half { words: Guarded::new(words).get(), stride, bf16 }),
        Rows::Q8 { codes, stride, scale, curvature } => {
            let (codes, scale, curvature) = (Guarded::new(codes), Guarded::new(scale), Guarded::new(curvature));
            run(Rows::Q8 { codes: codes.get(), stride, scale: scale.get(), curvature: curvature.get() });
        }
        Rows::Grouped(w) => {
            let [packed, group_scale, selector] = [w.packed, w.group_scale, w.selector].map(Guarded::new);
            let [scale, curvature] = [w.scale, w.curvature].map(Guarded::new);
            run(Rows::Grouped(GroupedRows {
                layout: w.layout,
                packed: packed.get(),
                scale: scale.get(),
                group_scale: group_scale.get(),
                selector: selector.get(),
                curvature: curvature.get(),
            }));
        }
        _ => panic!("a form without a kernel of its own"),
    }
}

/// The matrix without the padding after its last row: a read of it is found too.
fn unpadded(w: Rows<'_>, [rows, cols]: [usize; 2]) -> Rows<'_> {
    let cut = |part: &[u8], width: usize| (rows - 1) * part.len() / rows + width;
    match w {
        Rows::Q8 { codes, stride, scale, curvature } => {
            Rows::Q8 { codes: &codes[..cut(codes, cols)], stride, scale, curvature }
        }
        Rows::Grouped(w) => Rows::Grouped(GroupedRows {
            group_scale: &w.group_scale[..cut(w.group_scale, w.layout.group_scales(cols))],
            selector: &w.selector[..cut(w.selector, w.layout.selectors(cols))],
            ..w
        }),
        other => other,
    }
}

#[test]
fn linear_reads_nothing_after_the_end_of_a_part() {
    let (rows, mut random) = (3, Random(11));
    for cols in [1, 31, 32, 33, 127, 129, 255, 256, 257, 640, 896, 1023, 1024, 1025, 1300] {
        let weights: Vec<f32> =
            random.normals(rows * cols, 0.05).into_iter().map(|w| FloatDtype::Bf16.round(w)).collect();
        let words: Vec<u16> = weights.iter().map(|w| (w.to_bits() >> 16) as u16).collect();
        let encoded: Vec<_> = [Scheme::Q8, Scheme::Q8g, Scheme::Q6, Scheme::Q5, Scheme::Q4, Scheme::Q3]
            .map(|scheme| EncodedTensor::encode_as(&weights, [rows, cols], FloatDtype::Bf16, &scheme.into()).unwrap())
            .into();
        let mut all = vec![
            Rows::Dense(&weights),
            Rows::Half { words: &words, stride: cols, bf16: true },
            Rows::Half { words: &words, stride: cols, bf16: false },
        ];
        all.extend(encoded.iter().map(|e| unpadded(e.rows(), [rows, cols])));
        for m in [1, 2, 4] {
            let x = Guarded::new(&random.normals(m * cols, 1.0));
            for w in &all {
                for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
                    let product = |w: Rows<'_>| {
                        let mut y = vec![f32::NAN; m * rows];
                        linear_on(simd, w, [rows, cols], x.get(), &mut y);
                        bits(&y)
                    };
                    let expected = product(*w);
                    guarded(*w, &mut |guarded| assert_eq!(product(guarded), expected, "{m}×{cols}, {simd}: {w:?}"));
                }
            }
        }
    }
}

/// Set in the process that reads too far.
const READ_TOO_FAR: &str = "QINS_TEST_READ_TOO_FAR";

const SIGBUS: i32 = 7;

/// The control: a read of one byte after the end ends a process.
#[test]
fn a_read_after_the_end_of_a_part_is_found() {
    if env::var_os(READ_TOO_FAR).is_some() {
        let guarded = Guarded::new(&[1_u8; 5]);
        println!("{}", guarded.map[guarded.start + guarded.length]);
        return;
    }
    let name = "guard::a_read_after_the_end_of_a_part_is_found";
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(READ_TOO_FAR, "1");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(SIGBUS));
}
