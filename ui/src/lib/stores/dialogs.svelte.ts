// Modal dialogs, one confirmation at a time.
export interface Confirmation {
  title: string;
  /** What will be lost, or happen. */
  text: string;
  /** Items, one per line. */
  items?: string[];
  /** Label of the button: a verb and its object. */
  action: string;
  dangerous: boolean;
  /** Label of a checkbox, such as "Delete anonymous volumes too". */
  option?: string;
  /** A word the user must type to confirm. */
  word?: string;
}

export interface Answer {
  option: boolean;
  word: string;
}

class Dialogs {
  confirmation = $state<Confirmation | null>(null);
  palette = $state(false);
  shortcuts = $state(false);
  run = $state<{ image: string } | null>(null);
  pull = $state<{ reference: string } | null>(null);
  #answer: ((answer: Answer | null) => void) | null = null;

  confirm(confirmation: Confirmation): Promise<Answer | null> {
    this.#answer?.(null);
    this.confirmation = confirmation;
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }

  answer(answer: Answer | null): void {
    this.confirmation = null;
    this.#answer?.(answer);
    this.#answer = null;
  }
}

export const dialogs = new Dialogs();
