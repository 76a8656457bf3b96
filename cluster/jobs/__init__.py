"""What runs in Ray: worker groups and tasks with progress, and the jobs of experts, distilling and evaluating."""
