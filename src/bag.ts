/** Values in the order in which they came. */
export interface LinkedList<T> {
  readonly size: number
  /** The one that came first of all that are in. */
  first(): T | undefined
  /** All that are in at this moment. */
  values(): T[]
  /** Puts one in; what is returned takes it out again. */
  add(value: T): () => void
}

interface ListNode<T> {
  readonly value: T
  isRemoved: boolean
  previous: ListNode<T> | null
  next: ListNode<T> | null
}

/**
 * For what comes and goes with each request. A Set would do as well, but V8 copies one that is changed all the time over
 * and over, and each copy leads to the next: once the first of them is old, all that was ever in one survives the
 * collections of the young generation, and whatever hangs on it, which made each of them several times as long.
 */
export const createLinkedList = <T>(): LinkedList<T> => {
  let first: ListNode<T> | null = null
  let last: ListNode<T> | null = null
  let size = 0

  const unlink = (node: ListNode<T>): void => {
    const { previous: before, next: after } = node
    if (before === null) first = after
    else before.next = after
    if (after === null) last = before
    else after.previous = before
    // Else what is over would lead to what comes later, as those copies do.
    node.previous = null
    node.next = null
    node.isRemoved = true
    size -= 1
  }

  return {
    get size() {
      return size
    },

    first: () => first?.value,

    values: () => {
      const values: T[] = []
      for (let place = first; place !== null; place = place.next) values.push(place.value)
      return values
    },

    add: (value) => {
      const place: ListNode<T> = { value, isRemoved: false, previous: last, next: null }
      if (last === null) first = place
      else last.next = place
      last = place
      size += 1
      return () => {
        if (!place.isRemoved) unlink(place)
      }
    },
  }
}
