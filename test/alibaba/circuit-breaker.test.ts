import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type CircuitChange,
  createCircuitBreaker,
  createCircuits,
  type HealthSignal,
} from '../../src/alibaba/circuit-breaker.ts'
import { PRIORITIES, type Priority } from '../../src/priority.ts'

const OK: HealthSignal = { kind: 'ok' }
const FAILURE: HealthSignal = { kind: 'failure' }
const IGNORE: HealthSignal = { kind: 'ignore' }
const throttled = (forMs: number): HealthSignal => ({ kind: 'throttled', forMs })

/** Starts an attempt and returns its end. */
const beginOn = (breaker: ReturnType<typeof createCircuitBreaker>, rank = 0) => {
  const probed = breaker.startAttempt(rank)
  return (signal: HealthSignal) => breaker.endAttempt(probed, rank, signal)
}

/** A circuit on a clock that only the test moves. */
const start = () => {
  let atMs = 0
  const changes: CircuitChange[] = []
  const breaker = createCircuitBreaker({ now: () => atMs, onChange: (change) => void changes.push(change) })
  const circuit = { open: () => breaker.open(0), reason: breaker.reason, begin: () => beginOn(breaker) }
  const tell = (...signals: readonly HealthSignal[]): void => {
    for (const signal of signals) circuit.begin()(signal)
  }
  const pass = (ms: number): void => {
    atMs += ms
  }
  return { circuit, breaker, changes, tell, pass }
}

const times = (count: number, signal: HealthSignal): readonly HealthSignal[] =>
  Array.from({ length: count }, () => signal)

test('ten failures in a row open the circuit for five seconds', () => {
  const { circuit, tell, pass } = start()
  tell(...times(9, FAILURE))
  assert.equal(circuit.open(), null)
  tell(FAILURE)
  assert.deepEqual(circuit.open(), { reason: 'unhealthy', forMs: 5000 })
  pass(4999)
  assert.deepEqual(circuit.open(), { reason: 'unhealthy', forMs: 1 })
  pass(1)
  assert.equal(circuit.open(), null)
})

for (const signal of [OK, throttled(0)]) {
  test(`an answer between them (${signal.kind}) shows that the upstream answers`, () => {
    const { circuit, tell } = start()
    tell(...times(9, FAILURE), signal, ...times(9, FAILURE))
    assert.notEqual(circuit.open()?.reason, 'unhealthy')
  })
}

test('an ignored attempt counts neither way', () => {
  const { circuit, tell } = start()
  tell(...times(9, FAILURE), ...times(20, IGNORE))
  assert.equal(circuit.open(), null)
  tell(FAILURE)
  assert.equal(circuit.open()?.reason, 'unhealthy')
})

test('afterwards one attempt probes, and the others follow its success', () => {
  const { circuit, changes, tell, pass } = start()
  tell(...times(10, FAILURE))
  pass(5000)
  const end = circuit.begin()
  assert.deepEqual(circuit.open(), { reason: 'unhealthy', forMs: 300 })
  end(OK)
  assert.equal(circuit.open(), null)
  assert.deepEqual(changes, [{ state: 'unhealthy', forMs: 5000 }, { state: 'closed' }])
  tell(...times(9, FAILURE))
  assert.equal(circuit.open(), null)
})

test('each probe that fails doubles the time, up to forty seconds', () => {
  const { circuit, tell, pass } = start()
  tell(...times(10, FAILURE))
  for (const forMs of [10_000, 20_000, 40_000, 40_000]) {
    pass(60_000)
    tell(FAILURE)
    assert.deepEqual(circuit.open(), { reason: 'unhealthy', forMs })
  }
  pass(40_000)
  tell(OK, ...times(10, FAILURE))
  assert.deepEqual(circuit.open(), { reason: 'unhealthy', forMs: 5000 })
})

test('the reason is reported until an attempt succeeds', () => {
  const { circuit, tell, pass } = start()
  assert.equal(circuit.reason(), null)
  tell(...times(10, FAILURE))
  pass(60_000)
  assert.deepEqual([circuit.open(), circuit.reason()], [null, 'unhealthy'])
  tell(OK)
  assert.equal(circuit.reason(), null)
})

test('an ignored probe leaves the decision to the next', () => {
  const { circuit, tell, pass } = start()
  tell(...times(10, FAILURE))
  pass(5000)
  tell(IGNORE)
  assert.equal(circuit.open(), null)
  const end = circuit.begin()
  assert.equal(circuit.open()?.reason, 'unhealthy')
  end(OK)
  assert.equal(circuit.open(), null)
})

for (const signal of [OK, FAILURE, throttled(90_000)]) {
  test(`an attempt that started before the circuit opened and ends with ${signal.kind} changes nothing`, () => {
    const { circuit, changes, tell, pass } = start()
    const end = circuit.begin()
    tell(...times(10, FAILURE))
    pass(1000)
    end(signal)
    assert.deepEqual(circuit.open(), { reason: 'unhealthy', forMs: 4000 })
    assert.equal(changes.length, 1)
  })
}

test('one throttled attempt holds all back for as long as it says', () => {
  const { circuit, changes, tell, pass } = start()
  tell(throttled(700))
  assert.deepEqual(circuit.open(), { reason: 'throttled', forMs: 700 })
  pass(700)
  const end = circuit.begin()
  assert.equal(circuit.open()?.reason, 'throttled')
  end(throttled(300))
  assert.deepEqual(circuit.open(), { reason: 'throttled', forMs: 300 })
  pass(300)
  tell(OK)
  assert.equal(circuit.open(), null)
  assert.deepEqual(
    changes.map(({ state }) => state),
    ['throttled', 'throttled', 'closed'],
  )
})

test('however long it says, a probe is sent after a minute', () => {
  const { circuit, tell } = start()
  tell(throttled(86_400_000))
  assert.deepEqual(circuit.open(), { reason: 'throttled', forMs: 60_000 })
})

test('a probe after throttling that fails closes the circuit again', () => {
  const { circuit, tell, pass } = start()
  tell(throttled(100))
  pass(100)
  tell(FAILURE)
  assert.equal(circuit.open(), null)
  tell(...times(9, FAILURE))
  assert.equal(circuit.open()?.reason, 'unhealthy')
})

test('a probe holds back attempts of its own rank and less important ones, and never more important ones', () => {
  const { breaker, tell, pass } = start()
  tell(throttled(100))
  pass(100)
  const endRead = beginOn(breaker, 3)
  assert.deepEqual(
    [0, 2, 3].map((rank) => breaker.open(rank) === null),
    [true, true, false],
  )
  const endCancel = beginOn(breaker, 0)
  assert.deepEqual(
    [0, 3].map((rank) => breaker.open(rank) === null),
    [false, false],
  )
  endRead(IGNORE)
  assert.notEqual(breaker.open(0), null)
  endCancel(OK)
  assert.equal(breaker.open(3), null)
})

/** The circuits of all priorities, on a clock that only the test moves. */
const startAll = () => {
  let atMs = 0
  const changes: string[] = []
  const circuits = createCircuits({
    now: () => atMs,
    onChange: ({ state }, priority = undefined) => void changes.push(`${priority ?? 'all'} ${state}`),
  })
  const tell = (priority: Priority, ...signals: readonly HealthSignal[]): void => {
    for (const signal of signals) circuits.endAttempt(circuits.startAttempt(priority), priority, signal)
  }
  const pass = (ms: number): void => {
    atMs += ms
  }
  return { circuits, changes, tell, pass }
}

for (const priority of PRIORITIES) {
  test(`failures of the priority ${priority} hold back no other`, () => {
    const { circuits, changes, tell } = startAll()
    tell(priority, ...times(10, FAILURE))
    for (const other of PRIORITIES) {
      assert.equal(circuits.open(other)?.reason, other === priority ? 'unhealthy' : undefined, other)
      assert.equal(circuits.isUnhealthy(other), other === priority, other)
    }
    assert.deepEqual(changes, [`${priority} unhealthy`])
  })

  test(`a throttled attempt of the priority ${priority} holds back all, until one of any priority succeeds`, () => {
    const { circuits, changes, tell, pass } = startAll()
    tell(priority, throttled(700))
    for (const other of PRIORITIES) assert.deepEqual(circuits.open(other), { reason: 'throttled', forMs: 700 }, other)
    pass(700)
    assert.equal(circuits.isThrottled(), true)
    tell('follow-up', OK)
    assert.equal(circuits.isThrottled(), false)
    assert.deepEqual(changes, ['all throttled', 'all closed'])
  })
}

test('a success of one priority does not count for the failures of another', () => {
  const { circuits, tell } = startAll()
  for (let round = 0; round < 10; round += 1) {
    tell('cancel', FAILURE)
    tell('read', OK)
  }
  assert.equal(circuits.open('cancel')?.reason, 'unhealthy')
  assert.equal(circuits.open('read'), null)
})
