import { fileURLToPath } from 'node:url'

// Loaded before the tests: each test's process, the threads of its gateways and the processes that it starts would
// compile the same modules again, which is a third of all the time that tests take.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url))
