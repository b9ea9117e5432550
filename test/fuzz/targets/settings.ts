import assert from 'node:assert/strict'
import { parse } from 'dotenv'
import { parseConfig } from '../../../src/config.ts'
import { ConfigError } from '../../../src/errors.ts'

const SECRET = 'a-secret-that-no-fault-names'

/** The files that settings can name, each with its name as its text. */
const readFile = (path: string): string => (path.startsWith('/') ? path : assert.fail('no such file'))

/** A `.env` file: a faulty one is refused by one error that names settings and rules, and no secret. */
export const settings = (data: Buffer): void => {
  const env = { ALIBABA_CLOUD_ACCESS_KEY_SECRET: SECRET, ...parse(data) }
  try {
    const config = parseConfig(env, readFile)
    assert.ok(!JSON.stringify(config).includes(SECRET))
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error))
    assert.ok(error.faults.length > 0)
    for (const fault of error.faults) {
      assert.match(fault, /^[A-Za-z_][\w ,]*/)
      assert.ok(!fault.includes(SECRET))
    }
  }
}
