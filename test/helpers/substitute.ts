/** A pattern and its replacement. */
export type Edit = readonly [pattern: RegExp, replacement: string]

/** The text with each pattern replaced. @throws if a pattern matches nothing, so that no edit is silently lost */
export const substitute = (name: string, text: string, edits: readonly Edit[]): string =>
  edits.reduce((before, [pattern, replacement]) => {
    const after = before.replace(pattern, () => replacement)
    if (after === before) throw new Error(`${name} has no match for ${pattern}`)
    return after
  }, text)
