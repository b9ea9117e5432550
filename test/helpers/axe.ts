import { createRequire } from 'node:module'
import type { AxeResults } from 'axe-core'
import type { Page } from 'playwright-core'

/** The script of the accessibility checker. A page with a content security policy needs `bypassCSP`. */
export const AXE = createRequire(import.meta.url).resolve('axe-core')

/** Serious accessibility violations of a page that loaded `AXE`, in its current state. */
export const seriousFaults = async (page: Page, where: string): Promise<readonly string[]> => {
  const { violations } = await page.evaluate<AxeResults>('axe.run()')
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ target }) => `${where}: ${id} at ${target}`))
}
