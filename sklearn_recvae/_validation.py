
    items = check_array(
        items, ensure_2d=False, dtype=None, ensure_min_samples=0, input_name=name
    )
    if items.ndim != 1 or (items.size and items.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} is an array of {items.dtype} with {items.ndim} dimensions, "
            "expected a 1-D array of integers: column indices of X."
        )
    wrong = (items < 0) | (items >= n_items)
    if wrong.any():
        raise ValueError(
            f"{name} contains {items[wrong][0]}, expected column indices of X, "
            f"from 0 to {n_items - 1}."
        )
    return items.astype(np.int64)
