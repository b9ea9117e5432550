import { inspect } from 'node:util'

const REDACTED = '[secret]'

/**
 * A text that must not be seen: string conversion, JSON and inspection all print `[secret]`; only `reveal()` gives it.
 */
export class Secret {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  /** The text itself. Call it where the secret is used, never where it is passed on. */
  reveal(): string {
    return this.#text
  }

  toString(): string {
    return REDACTED
  }

  toJSON(): string {
    return REDACTED
  }

  [inspect.custom](): string {
    return REDACTED
  }
}
