//! Several texts at a time.

use std::ops::ControlFlow;

use qins_burn::{Error, Generation, Generator, Stop, Together, decoder::Decoder, load};
use qins_quant::checkpoint::{Checkpoint, Files};

use crate::common::{Golden, cases, device, fixture, goldens};

/// A model, and what Transformers writes with it.
fn open(name: &str) -> (Decoder, Vec<Golden>) {
    let dir = fixture(name);
    let goldens = goldens(&dir).prompts;
    let checkpoint = Checkpoint::open(Files::Directory(dir)).unwrap();
    (load(&checkpoint, None, &device(), |_, _| {}).unwrap().model, goldens)
}

/// The tokens of each text, or an error.
fn texts(model: &Decoder, generator: &Generator, prompts: &[&[u32]], at_once: usize) -> Vec<Result<Vec<u32>, Error>> {
    let mut texts: Vec<Result<Vec<u32>, Error>> = prompts.iter().map(|_| Ok(Vec::new())).collect();
    let with_generators = prompts.iter().map(|ids| (ids.to_vec(), generator.clone()));
    for (prompt, token) in Together::new(model, with_generators, at_once) {
        match (&mut texts[prompt], token) {
            (Ok(ids), Ok(token)) => ids.push(token.id),
            (text, token) => *text = token.map(|_| panic!("a token after an error")),
        }
    }
    texts
}

/// Grouped heads, sliding windows, two rotations, and a switch of LongRoPE's frequencies within some of the texts.
#[test]
fn texts_that_are_continued_together_are_those_of_transformers() {
    let models = ["phi3/b_gqa/f32", "phi3/c_longrope/f32", "phi3/d_sliding/f32", "families/gemma3", "families/qwen3"];
    for name in cases(models, 2) {
        let (model, goldens) = open(name);
        // All twice, the second time with one token less.
        let prompts: Vec<&[u32]> = goldens
            .iter()
            .flat_map(|golden| [&golden.input_ids[..], &golden.input_ids[..golden.input_ids.len() - 1]])
            .collect();
        let greedy = Generator::greedy(goldens[0].generated.len(), &[]);
        for at_once in [1, 3, 16] {
            for (i, text) in texts(&model, &greedy, &prompts, at_once).into_iter().enumerate() {
                // Control: the other prompt has another text.
                assert_eq!(
                    text.unwrap() == goldens[i / 2].generated,
                    i % 2 == 0,
                    "{name}: prompt {i}, {at_once} at a time"
                );
            }
        }
    }
}

#[test]
fn each_text_ends_by_itself() {
    let (model, goldens) = open("phi3/b_gqa/f32");
    let prompts: Vec<&[u32]> = goldens.iter().map(|golden| &golden.input_ids[..]).collect();
    let generator = Generator::greedy(12, &goldens[0].generated[4..6]);
    let alone = |prompt: &&[u32]| generator.generate(&model, prompt, |_| ControlFlow::Continue(())).unwrap();
    let alone: Vec<Generation> = prompts.iter().map(alone).collect();
    assert!(alone.iter().any(|text| text.stop == Stop::Eos) && alone.iter().any(|text| text.stop == Stop::Length));
    let alone: Vec<Vec<u32>> = alone.into_iter().map(|text| text.ids).collect();
    for at_once in [0, 1, 2, 16] {
        let together: Vec<Vec<u32>> =
            texts(&model, &generator, &prompts, at_once).into_iter().map(Result::unwrap).collect();
        assert_eq!(together, alone, "{at_once} at a time");
    }
    assert!(texts(&model, &generator, &[], 4).is_empty());
    let none = texts(&model, &Generator::greedy(0, &[]), &prompts, 4);
    assert!(none.into_iter().all(|text| text.unwrap().is_empty()));
}

#[test]
fn an_error_is_that_of_its_text() {
    let (mut model, goldens) = open("phi3/b_gqa/f32");
    let (prompt, vocabulary) = (&goldens[0].input_ids[..], model.config().vocab_size as u32);
    let long = vec![1; model.config().max_position_embeddings + 1];
    let greedy = Generator::greedy(6, &[]);
    let found = texts(&model, &greedy, &[prompt, &[vocabulary], &[], &long, prompt], 2);
    let expected = &goldens[0].generated[..6];
    assert!([0, 4].iter().all(|i| found[*i].as_ref().unwrap() == expected));
    assert!(matches!(found[1], Err(Error::TokenId { .. })) && matches!(found[2], Err(Error::Empty)));
    assert!(matches!(found[3], Err(Error::ContextFull { .. })));
    // A full context ends a text.
    let full = texts(&model, &greedy, &[&long[..long.len() - 3], prompt], 2);
    assert_eq!((full[0].as_ref().unwrap().len(), &full[1].as_ref().unwrap()[..]), (3, expected));
    // Numbers that overflow do so in every text.
    let overflowing = model.norm.gamma.val().mul_scalar(1e38).mul_scalar(1e38);
    model.norm.gamma = burn::module::Param::from_tensor(overflowing);
    let overflown = texts(&model, &greedy, &[prompt, prompt], 2);
    assert!(overflown.iter().all(|text| matches!(text, Err(Error::NotFinite { .. }))));
}
