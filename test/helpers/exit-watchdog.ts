import { isMainThread } from 'node:worker_threads'

// Loaded before the tests. Test timeouts do not end a process that an open handle keeps alive after the last test.
const GRACE_MS = 30_000

const endProcess = (): never => {
  process.stderr.write(`open after the last test: ${process.getActiveResourcesInfo().join(', ')}\n`)
  process.exit(1)
}

// Each thread of a gateway loads this file as well, and the module of the test runner would slow its start down.
const isOfOneFile = process.env.NODE_TEST_CONTEXT !== undefined && isMainThread
if (isOfOneFile) {
  const { after } = await import('node:test')
  after(() => setTimeout(endProcess, GRACE_MS).unref())
}
