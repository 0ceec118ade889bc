//! Arguments that only mean something in the process that made them.

use std::rc::Rc;

use swath::prelude::*;

fn main() -> swath::Result<()> {
    swath::init();
    let pool = Pool::builder().workers(2).build()?;
    let a = SharedArray::<f64, _>::zeros(1000)?;
    let _phase = pool.phase(&a).args(Rc::new(2.0));
    Ok(())
}
