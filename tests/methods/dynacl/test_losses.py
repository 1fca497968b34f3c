import torch

from methods.dynacl.losses import schedule_weighted


def test_weights_move_the_loss_from_clean_to_adversarial():
    clean, adversarial = torch.tensor(3.0), torch.tensor(5.0)
    assert [float(schedule_weighted(clean, adversarial, w)) for w in (0, 1, 2)] == [3, 4, 5]
