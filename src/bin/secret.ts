import { createSecret } from '../settings/secret-strength.ts'

process.stdout.write(`${createSecret()}\n`)
