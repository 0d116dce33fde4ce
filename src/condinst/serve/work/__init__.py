"""The queue of pictures, the decision whether one more is accepted, and the thread that predicts them."""
