import { StoreError } from './store.ts'

interface Waiter<Item, Result> {
  readonly item: Item
  readonly done: PromiseWithResolvers<Result>
}

/**
 * Commits one item after the other in groups: the items that arrive while a commit runs share the next one.
 * @param commit resolves with the result of each item, in the same order; it must not reject
 * @param schedule starts the first commit after a pause; items that arrive until then share it
 */
export const createGroupCommit = <Item, Result>(
  commit: (items: readonly Item[]) => Promise<readonly Result[]>,
  schedule: (start: () => void) => void,
): ((item: Item) => Promise<Result>) => {
  let waiting: Waiter<Item, Result>[] = []
  let isRunning = false

  const start = async (): Promise<void> => {
    if (isRunning || waiting.length === 0) return
    isRunning = true
    const group = waiting
    waiting = []
    const results = await commit(group.map(({ item }) => item))
    isRunning = false
    // The next commit starts before the callers of this one continue.
    void start()
    for (const [index, { done }] of group.entries()) {
      const result = results[index]
      if (result === undefined) done.reject(new StoreError('UNKNOWN'))
      else done.resolve(result)
    }
  }

  return (item) => {
    const done = Promise.withResolvers<Result>()
    waiting.push({ item, done })
    if (waiting.length === 1) schedule(start)
    return done.promise
  }
}
