import { spawnSync } from 'node:child_process'
import { Readable, Writable } from 'node:stream'

// A minimal reproduction for the developers of Node, without libraries: `node bench/old-generation-functions.ts`.
//
// V8 allocates a function in the old generation if its literal is assigned to a property, or is an accessor of an
// object literal, until it has optimized the surrounding function. Node's `WritableState` does the first for every
// writable stream. A dead function of the old generation keeps the stream, and everything that the stream references,
// until the next full collection.

const COUNT = 4000

/** Each makes one object that is garbage at once, as are the 16 KB that only this object references. */
const CASES: Readonly<Record<string, (load: object) => object>> = {
  'a function in a variable': (load) => {
    const onwrite = () => load
    return { onwrite }
  },
  'a function assigned to a property': (load) => {
    const state: { onwrite?: () => object } = {}
    state.onwrite = () => load
    return state
  },
  'a method of an object literal': (load) => ({ load: () => load }),
  'an accessor of an object literal': (load) => ({
    get load() {
      return load
    },
  }),
  'a Readable': (load) => Object.assign(new Readable(), { load }),
  'a Writable': (load) => Object.assign(new Writable(), { load }),
}

const run = CASES[process.argv[2] ?? '']
if (run === undefined) {
  for (const name of Object.keys(CASES)) {
    const { stdout } = spawnSync(process.execPath, ['--trace-gc-nvp', import.meta.filename, name])
    const promoted = [...String(stdout).matchAll(/ promoted=(\d+)/g)].map(([, bytes]) => Number(bytes))
    const bytes = promoted.reduce((sum, each) => sum + each, 0) / COUNT
    console.log(`${name}: ${bytes.toFixed(0)} bytes promoted for each`)
  }
} else {
  for (let index = 0; index < COUNT; index += 1) {
    run(Array.from({ length: 200 }, () => ({ index, more: [index] })))
    await null
  }
}
