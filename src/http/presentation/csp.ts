const NOTHING = {
  'default-src': "'none'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
} as const

/** A content security policy that allows nothing but the given directives. */
export const csp = (directives: Readonly<Record<string, string>> = {}): string =>
  Object.entries({ ...NOTHING, ...directives })
    .map(([name, value]) => `${name} ${value}`)
    .join(';')
