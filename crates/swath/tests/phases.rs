//! Phases give the same answers in processes and inline, for every end, operand and chunk option.

use swath::prelude::*;

swath::worker_entry!();

fn pools() -> Vec<Pool> {
    [0, 1, 2, 3].map(|n| Pool::builder().workers(n).build().expect("a pool")).into()
}

#[test]
fn the_first_program() {
    for pool in pools() {
        let x = SharedArray::from_shape_fn(100_000, |i| i as f64).expect("room");
        let mut y = SharedArray::<f64, _>::zeros(100_000).expect("room");
        pool.phase((&x, out(&mut y)))
            .args(2.0)
            .for_each(|ctx, (x, mut y)| azip!((y in &mut y, &x in &x) *y = ctx.args() * x.sqrt()))
            .expect("a phase");
        assert_eq!(y.view()[99_999], 2.0 * 99_999f64.sqrt());
        let norm = pool.phase(&y).map(|_, y| y.dot(&y)).reduce(0.0, |a, b| a + b).expect("a phase");
        assert!((norm - 4.0 * (99_999.0 * 100_000.0 / 2.0)).abs() < 1.0, "{norm}");
    }
}

#[test]
fn reductions_have_the_same_bits_for_any_number_of_workers() {
    let bits: Vec<u64> = pools()
        .iter()
        .map(|pool| {
            let x = SharedArray::from_shape_fn(300_000, |i| 1.0 / (i as f64 + 1.0)).expect("room");
            pool.phase(&x).map(|_, x| x.sum()).reduce(0.0, |a, b| a + b).expect("a phase").to_bits()
        })
        .collect();
    assert!(bits.windows(2).all(|w| w[0] == w[1]), "{bits:x?}");
}

#[test]
fn updates_collects_concats_and_folds() {
    for pool in pools() {
        let mut y = SharedArray::from_shape_fn((1000, 3), |(i, j)| (i * 3 + j) as i64).expect("room");
        pool.phase(&mut y).chunk(Chunk::Rows(7)).for_each(|_, mut y| y += 1).expect("a phase");
        assert_eq!(y.view()[[999, 2]], 3000);
        let firsts = pool.phase(&y).chunk(Chunk::Rows(300)).map(|ctx, y| (ctx.chunk(), y[[0, 0]])).collect();
        assert_eq!(firsts.expect("a phase"), [(0, 1), (1, 901), (2, 1801), (3, 2701)]);
        let long = pool
            .phase(&y)
            .chunk(Chunk::Rows(300))
            .map(|_, y| y.iter().copied().collect::<Vec<i64>>())
            .collect();
        assert_eq!(long.expect("a phase").concat(), (1..=3000).collect::<Vec<i64>>());
        let mut even = SharedArray::<i64, _>::zeros(2000).expect("room");
        let count = pool
            .phase(&y)
            .map(|_, y| y.iter().copied().filter(|v| v % 2 == 0).collect::<Vec<i64>>())
            .concat(out(&mut even))
            .expect("a phase");
        assert_eq!((count, even.view()[0], even.view()[1499], even.view()[1500]), (1500, 2, 3000, 0));
        let total = pool
            .phase(&y)
            .chunk(Chunk::Rows(1))
            .fold(
                || (0u64, 0i64),
                |_, acc, y| {
                    acc.0 += 1;
                    acc.1 += y.sum();
                },
            )
            .merge(|a, b| (a.0 + b.0, a.1 + b.1))
            .expect("a phase");
        assert_eq!(total, (1000, 3000 * 3001 / 2));
    }
}

#[test]
fn chunks_update_an_array_under_the_lock() {
    for pool in pools() {
        let x = SharedArray::from_shape_fn(10_000, |i| (i % 7) as u64).expect("room");
        let (mut counts, mut last) = (SharedArray::<u64, _>::zeros(7), SharedArray::<u64, _>::zeros((2, 1)));
        let (counts, last) = (counts.as_mut().expect("room"), last.as_mut().expect("room"));
        let phase = pool.phase((&x, locked(counts), locked(last))).chunk(Chunk::Rows(100));
        let seen = phase.map(|_, (x, mut counts, mut last)| {
            for value in x {
                counts.lock()[*value as usize] += 1;
            }
            last.lock()[[1, 0]] += 1;
            last.lock()[[1, 0]]
        });
        let mut seen = seen.collect().expect("a phase");
        seen.sort();
        assert_eq!(seen, (1..=100).collect::<Vec<u64>>(), "each chunk had the lock alone");
        assert_eq!((counts.view().sum(), counts.view()[0], counts.view()[6]), (10_000, 1429, 1428));
        assert_eq!(last.view()[[1, 0]], 100);
    }
}

#[test]
fn what_a_failed_chunk_did_under_the_lock_is_undone() {
    for pool in pools() {
        let x = SharedArray::<u8, _>::zeros(10).expect("room");
        let mut count = SharedArray::<u64, _>::zeros(1).expect("room");
        let phase = pool.phase((&x, locked(&mut count))).chunk(Chunk::Rows(1)).keep_going();
        let report = phase.for_each_report(|ctx, (_, mut count)| {
            count.lock()[0] += 1;
            assert!(ctx.chunk() % 2 == 0, "an odd chunk");
        });
        assert_eq!(report.expect("it goes on").failed.len(), 5);
        assert_eq!(count.view()[0], 5);
    }
}

#[test]
fn locked_operands_are_not_cut_and_not_for_fold() {
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let x = SharedArray::<u8, _>::zeros(10).expect("room");
    let mut count = SharedArray::<u64, _>::zeros(1).expect("room");
    let error = pool.phase(locked(&mut count)).for_each(|_, _| ()).expect_err("nothing to cut");
    assert_eq!(error.kind(), ErrorKind::Shape);
    let fold = pool.phase((&x, locked(&mut count))).fold(|| 0u64, |_, _, _| ());
    assert_eq!(fold.merge(|a, _| a).expect_err("refused").kind(), ErrorKind::Usage);
}

#[test]
fn populating_keeps_every_value_in_either_order() {
    for pool in pools() {
        for order in [swath::array::Order::C, swath::array::Order::Fortran] {
            let options = SharedArray::options().unnamed().order(order);
            let mut a: SharedArray<f64, _> = options.create((300, 1000)).expect("room");
            a.view_mut().iter_mut().enumerate().for_each(|(i, x)| *x = i as f64);
            pool.populate(&mut a).expect("memory");
            assert!(a.view().iter().enumerate().all(|(i, x)| *x == i as f64));
        }
    }
}

/// Minor page faults of a process so far: field 10 of its `stat`.
fn faults_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let rest = &stat[stat.rfind(')').expect("a name") + 2..];
    rest.split(' ').nth(7).expect("a field").parse().expect("a number")
}

#[test]
fn a_populated_array_is_mapped_in_its_worker() {
    const PAGES: usize = 4096;
    let pool = Pool::builder().workers(1).build().expect("a pool");
    let first_pass = |populate: bool| {
        let options = SharedArray::options().unnamed();
        let mut a: SharedArray<u8, _> = options.create(PAGES * 4096).expect("room");
        if populate {
            pool.populate(&mut a).expect("memory");
        }
        let before = faults_of(pool.pids()[0]);
        pool.phase(out(&mut a)).for_each(|_, mut a| a.fill(1)).expect("a phase");
        faults_of(pool.pids()[0]) - before
    };
    let (cold, warm) = (first_pass(false), first_pass(true));
    assert!(cold >= PAGES as u64 / 32, "{cold} faults without"); // the kernel may map a few at a time
    assert!(warm <= cold / 4, "{warm} faults with, {cold} without");
}

#[test]
fn empty_arrays_and_wrong_shapes() {
    for pool in pools() {
        let none = SharedArray::<f64, _>::zeros(0).expect("room");
        assert_eq!(pool.phase(&none).map(|_, x| x.sum()).reduce(7.0, |a, b| a + b).expect("a phase"), 7.0);
        let (a, b) =
            (SharedArray::<u8, _>::zeros(5).expect("room"), SharedArray::<u8, _>::zeros(6).expect("room"));
        let error = pool.phase((&a, &b)).for_each(|_, _| ()).expect_err("rows differ");
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(
            pool.phase((&a, whole(&b))).for_each(|_, (a, b)| assert!(a.len() < 6 && b.len() == 6)).is_ok()
        );
        assert!(pool.phase(&a).chunk(Chunk::Rows(0)).for_each(|_, _| ()).is_err());
    }
}

#[test]
fn errors_and_panics_are_data() {
    for pool in pools() {
        let mut a = SharedArray::from_shape_fn(100, |i| i as i32).expect("room");
        let error = pool
            .phase(&mut a)
            .chunk(Chunk::Rows(10))
            .name("negate")
            .for_each(|ctx, mut a| {
                a.mapv_inplace(|v| -v);
                if ctx.chunk() == 3 { Err("chunk three is odd") } else { Ok(()) }
            })
            .expect_err("a chunk fails");
        assert_eq!(error.kind(), ErrorKind::Failed);
        let text = error.to_string();
        assert!(
            text.contains("phase `negate`: 1 of 10 chunks failed") && text.contains("chunk three is odd"),
            "{text}"
        );
        assert_eq!(a.view()[35], 35, "a failed chunk is as it was before");
        let error = pool
            .phase(&a)
            .chunk(Chunk::Rows(50))
            .for_each(|ctx, _| assert!(ctx.rows().start < 50, "row {}", ctx.rows().start))
            .expect_err("a chunk panics");
        assert!(error.to_string().contains("phases.rs:") && error.to_string().contains("row 50"), "{error}");
    }
}

#[test]
fn keep_going_lists_what_is_missing() {
    for pool in pools() {
        let a = SharedArray::from_shape_fn(100, |i| i as i32).expect("room");
        let (sum, report) = pool
            .phase(&a)
            .chunk(Chunk::Rows(10))
            .keep_going()
            .try_map(|ctx, a| if ctx.chunk() == 2 { Err("no") } else { Ok(a.sum()) })
            .reduce_report(0, |a, b| a + b)
            .expect("kept going");
        assert_eq!(sum, (0..100).sum::<i32>() - (20..30).sum::<i32>());
        assert_eq!(report.failed.len(), 1);
        assert_eq!(report.failed[0].rows, 20..30);
    }
}
