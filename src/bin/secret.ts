import { createSecret } from '../secret-strength.ts'

process.stdout.write(`${createSecret()}\n`)
