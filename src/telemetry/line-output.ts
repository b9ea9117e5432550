import { constants, fstatSync, openSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { isatty } from 'node:tty'

export interface LineOutputOptions {
  readonly fd: number
  /** Writing works again: so many lines were dropped meanwhile. */
  readonly onResumed?: (dropped: number) => void
}

/** Bytes that may wait for the reader: some 3000 lines. */
const WAITING_MAX = 1024 * 1024
const RETRY_MS = 10
const FLUSH_PAUSE_MS = 5

/**
 * Lines that go to a file descriptor. No method ever waits for the reader, except `flush` for the time that it is
 * given. Lines are written at once, so that a crash loses none as long as the reader reads. Once the reader stops, they wait
 * in memory up to a limit. A reader that has gone, or a full disk, costs the lines that come meanwhile.
 */
export const createLineOutput = ({ fd: given, onResumed = () => undefined }: LineOutputOptions) => {
  const fd = withoutBlocking(given)
  /** Bytes that were taken from the queue and not yet written to their end. */
  let rest: Buffer = Buffer.alloc(0)
  let queue: string[] = []
  let queuedBytes = 0
  let isMidLine = false
  let dropped = 0
  let unreported = 0
  let isRetrying = false

  const drop = (lines: number): void => {
    dropped += lines
    unreported += lines
  }

  /** Writes as much as the reader accepts now, and keeps the remainder in `rest`. */
  const send = (bytes: Buffer): void => {
    rest = bytes
    while (rest.length > 0) {
      const written = writeSync(fd, rest)
      isMidLine = written > 0 ? rest[written - 1] !== LINE_FEED : isMidLine
      rest = rest.subarray(written)
    }
  }

  const discardWaiting = (): void => {
    drop(linesIn(rest) + queue.length)
    rest = Buffer.alloc(0)
    queue = []
    queuedBytes = 0
  }

  const advance = (): 'done' | 'busy' | 'lost' => {
    try {
      send(rest)
      while (queue.length > 0) {
        const bytes = Buffer.from(queue.join(''))
        queue = []
        queuedBytes = 0
        send(bytes)
      }
      return 'done'
    } catch (error) {
      if (isReaderBusy(error)) return 'busy'
      discardWaiting()
      return 'lost'
    }
  }

  const retryLater = (): void => {
    if (isRetrying) return
    isRetrying = true
    setTimeout(() => {
      isRetrying = false
      const result = advance()
      if (result === 'busy') retryLater()
      if (result === 'done' && unreported > 0) report()
    }, RETRY_MS).unref()
  }

  const report = (): void => {
    const lines = unreported
    unreported = 0
    onResumed(lines)
  }

  const isWaiting = (): boolean => rest.length > 0 || queue.length > 0

  const enqueue = (line: string): void => {
    const bytes = Buffer.byteLength(line)
    // Once a line is dropped, so are later ones until the reader has taken all that waits: one gap, and one report of
    // it.
    if (unreported > 0 || rest.length + queuedBytes + bytes > WAITING_MAX) {
      drop(1)
    } else {
      queue.push(line)
      queuedBytes += bytes
    }
  }

  const writeNow = (line: string): void => {
    try {
      // After a loss in mid-line the next line has to begin one of its own.
      send(Buffer.from(isMidLine ? `\n${line}` : line))
      if (unreported > 0) report()
    } catch (error) {
      if (isReaderBusy(error)) {
        retryLater()
      } else {
        rest = Buffer.alloc(0)
        drop(1)
      }
    }
  }

  return {
    /** A line that can't be written now waits for the reader; one that finds no room is dropped and counted. */
    write: (line: string): void => (isWaiting() ? enqueue(line) : writeNow(line)),
    /** Lines that were dropped since the start. */
    dropped: () => dropped,
    /** Writes waiting lines for at most so many milliseconds. For the end of the process. */
    flush: (timeoutMs: number): void => {
      const endMs = performance.now() + timeoutMs
      let result = advance()
      for (; result === 'busy' && performance.now() < endMs; result = advance()) pause(FLUSH_PAUSE_MS)
      if (result === 'done' && unreported > 0) report()
    },
  }
}

const LINE_FEED = 0x0a

const linesIn = (bytes: Buffer): number => bytes.reduce((sum, byte) => sum + Number(byte === LINE_FEED), 0)

const isReaderBusy = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EAGAIN'

/** Holds up the whole thread: nothing else may happen between the last line and the end of the process. */
const pause = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

/**
 * A descriptor for the same output on which a write returns EAGAIN rather than waiting. Writes to files never wait for
 * a reader, so a file stays as it is; so does a descriptor that this platform can't switch.
 */
const withoutBlocking = (fd: number): number => {
  try {
    // A terminal is shared with other programs, which expect theirs to wait: this opens it once more, where /proc
    // exists.
    if (isatty(fd))
      return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
    const stats = fstatSync(fd)
    // Node switches pipes and sockets that become a Socket; this one is never used, and keeps nothing alive.
    if (stats.isFIFO() || stats.isSocket()) new Socket({ fd, readable: false, writable: true }).unref()
  } catch {
    // See above.
  }
  return fd
}
