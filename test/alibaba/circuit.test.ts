import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CircuitState, createCircuit, type Verdict } from '../../src/alibaba/circuit.ts'

const WELL: Verdict = { kind: 'well' }
const ILL: Verdict = { kind: 'ill' }
const UNTOLD: Verdict = { kind: 'untold' }
const throttled = (forMs: number): Verdict => ({ kind: 'throttled', forMs })

/** A circuit on a clock that only the test moves. */
const start = () => {
  let atMs = 0
  const changes: CircuitState[] = []
  const circuit = createCircuit({ now: () => atMs, onChange: (change) => void changes.push(change) })
  const tell = (...verdicts: readonly Verdict[]): void => {
    for (const verdict of verdicts) circuit.begin()(verdict)
  }
  const pass = (ms: number): void => {
    atMs += ms
  }
  return { circuit, changes, tell, pass }
}

const times = (count: number, verdict: Verdict): readonly Verdict[] => Array.from({ length: count }, () => verdict)

test('ten attempts in a row that find upstream ill open it for five seconds', () => {
  const { circuit, tell, pass } = start()
  tell(...times(9, ILL))
  assert.equal(circuit.blocked(), null)
  tell(ILL)
  assert.deepEqual(circuit.blocked(), { reason: 'ill', forMs: 5000 })
  pass(4999)
  assert.deepEqual(circuit.blocked(), { reason: 'ill', forMs: 1 })
  pass(1)
  assert.equal(circuit.blocked(), null)
})

for (const verdict of [WELL, throttled(0)]) {
  test(`an answer between them (${verdict.kind}) shows that it is alive`, () => {
    const { circuit, tell } = start()
    tell(...times(9, ILL), verdict, ...times(9, ILL))
    assert.notEqual(circuit.blocked()?.reason, 'ill')
  })
}

test('what tells nothing counts neither way', () => {
  const { circuit, tell } = start()
  tell(...times(9, ILL), ...times(20, UNTOLD))
  assert.equal(circuit.blocked(), null)
  tell(ILL)
  assert.equal(circuit.blocked()?.reason, 'ill')
})

test('afterwards one goes first, and the others when it came back well', () => {
  const { circuit, changes, tell, pass } = start()
  tell(...times(10, ILL))
  pass(5000)
  const end = circuit.begin()
  assert.deepEqual(circuit.blocked(), { reason: 'ill', forMs: 300 })
  end(WELL)
  assert.equal(circuit.blocked(), null)
  assert.deepEqual(changes, [{ state: 'ill', forMs: 5000 }, { state: 'closed' }])
  tell(...times(9, ILL))
  assert.equal(circuit.blocked(), null)
})

test('each first one that finds it ill still doubles the time, up to forty seconds', () => {
  const { circuit, tell, pass } = start()
  tell(...times(10, ILL))
  for (const forMs of [10_000, 20_000, 40_000, 40_000]) {
    pass(60_000)
    tell(ILL)
    assert.deepEqual(circuit.blocked(), { reason: 'ill', forMs })
  }
  pass(40_000)
  tell(WELL, ...times(10, ILL))
  assert.deepEqual(circuit.blocked(), { reason: 'ill', forMs: 5000 })
})

test('why it opened is told until one has shown that it need not be', () => {
  const { circuit, tell, pass } = start()
  assert.equal(circuit.reason(), null)
  tell(...times(10, ILL))
  pass(60_000)
  assert.deepEqual([circuit.blocked(), circuit.reason()], [null, 'ill'])
  tell(WELL)
  assert.equal(circuit.reason(), null)
})

test('a first one that tells nothing leaves it to the next', () => {
  const { circuit, tell, pass } = start()
  tell(...times(10, ILL))
  pass(5000)
  tell(UNTOLD)
  assert.equal(circuit.blocked(), null)
  const end = circuit.begin()
  assert.equal(circuit.blocked()?.reason, 'ill')
  end(WELL)
  assert.equal(circuit.blocked(), null)
})

for (const verdict of [WELL, ILL, throttled(90_000)]) {
  test(`who went out before it opened and comes back ${verdict.kind} changes nothing`, () => {
    const { circuit, changes, tell, pass } = start()
    const end = circuit.begin()
    tell(...times(10, ILL))
    pass(1000)
    end(verdict)
    assert.deepEqual(circuit.blocked(), { reason: 'ill', forMs: 4000 })
    assert.equal(changes.length, 1)
  })
}

test('one throttled attempt keeps all back for as long as it says', () => {
  const { circuit, changes, tell, pass } = start()
  tell(throttled(700))
  assert.deepEqual(circuit.blocked(), { reason: 'throttled', forMs: 700 })
  pass(700)
  const end = circuit.begin()
  assert.equal(circuit.blocked()?.reason, 'throttled')
  end(throttled(300))
  assert.deepEqual(circuit.blocked(), { reason: 'throttled', forMs: 300 })
  pass(300)
  tell(WELL)
  assert.equal(circuit.blocked(), null)
  assert.deepEqual(
    changes.map(({ state }) => state),
    ['throttled', 'throttled', 'closed'],
  )
})

test('however long it says, by the minute one goes and sees', () => {
  const { circuit, tell } = start()
  tell(throttled(86_400_000))
  assert.deepEqual(circuit.blocked(), { reason: 'throttled', forMs: 60_000 })
})

test('a first one after throttling that finds upstream ill lets the others find out', () => {
  const { circuit, tell, pass } = start()
  tell(throttled(100))
  pass(100)
  tell(ILL)
  assert.equal(circuit.blocked(), null)
  tell(...times(9, ILL))
  assert.equal(circuit.blocked()?.reason, 'ill')
})
