import { fileURLToPath } from 'node:url'

// Loaded before the tests. Without the cache, each test process, the threads of its gateways and its child processes
// compile the same modules again, which takes a third of the test time.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url))
